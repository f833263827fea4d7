"""What max and average pooling share: attributes, shapes, the ONNX import and export rules."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..ir.dtypes import Array, Shape, TensorType
from ..ir.graph import Node, Value
from ..ir.opdef import OpDef
from ._clamp import UNBOUNDED, Clamp, export_clamped
from ._onnx import ExportContext, ImportContext, OnnxNode
from ._window import Pads, Pair, import_window, output_size


@dataclass(frozen=True)
class PoolAttrs:
    """kernel: window height and width. ceil_mode: a last, partial window counts.

    clamp: real bounds of a fused activation; q_clamp: the same in the output's integers.
    """

    kernel: Pair = (1, 1)
    strides: Pair = (1, 1)
    pads: Pads = (0, 0, 0, 0)
    dilations: Pair = (1, 1)
    ceil_mode: bool = False
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    clamp: Clamp = UNBOUNDED
    q_clamp: tuple[int, int] = (-128, 127)


def nhwc(shape: Shape, attrs: PoolAttrs) -> Shape:
    return shape if attrs.layout == "NHWC" else (shape[0], shape[2], shape[3], shape[1])


def window_count(x: TensorType, attrs: PoolAttrs) -> Pair:
    """Height and width of the output."""
    _, height, width, _ = nhwc(x.shape, attrs)
    return output_size((height, width), attrs.kernel, attrs, ceil=attrs.ceil_mode)


def infer_pool(x: TensorType, attrs: PoolAttrs) -> TensorType:
    if x.rank != 4:
        raise ValueError(f"takes a 4-D input, not {x}")
    n, _, _, channels = nhwc(x.shape, attrs)
    oh, ow = window_count(x, attrs)
    return x.with_shape((n, oh, ow, channels) if attrs.layout == "NHWC" else (n, channels, oh, ow))


def pool_macs(node: Node) -> int:
    """One operation per tap of the window."""
    return node.y.elements * math.prod(node.attrs.kernel)


def taps(size: int, out: int, axis: int, attrs: PoolAttrs) -> Array:
    """[out, kernel] input positions that each window reads along axis 0 (height) or 1 (width).

    Positions outside [0, size) lie in the padding.
    """
    starts = np.arange(out) * attrs.strides[axis] - attrs.pads[axis]
    return starts[:, None] + np.arange(attrs.kernel[axis])[None, :] * attrs.dilations[axis]


def taps_inside(node: Node) -> tuple[Array, Array]:
    """Of height and width of an NHWC pool: per window how many of its taps lie inside the input."""
    attrs: PoolAttrs = node.attrs
    at = [taps(node.x.shape[a + 1], node.y.shape[a + 1], a, attrs) for a in (0, 1)]
    high, wide = (((p >= 0) & (p < node.x.shape[a + 1])).sum(1) for a, p in enumerate(at))
    return high, wide


def in_layout(y: Array, attrs: PoolAttrs) -> Array:
    """An NHWC result in the node's layout."""
    return np.ascontiguousarray(y.transpose(0, 3, 1, 2)) if attrs.layout == "NCHW" else y


def import_pool(
    node: OnnxNode, out: ImportContext, op: OpDef, attrs_of: Callable[..., Any]
) -> Sequence[Value]:
    """ONNX MaxPool or AveragePool, 2-D or 1-D (as height 1). attrs_of takes PoolAttrs' fields."""
    x = node.x(0)
    kernel = tuple(node.attr("kernel_shape", ()))
    if x.type.rank in (3, 4) and len(kernel) != x.type.rank - 2:
        node.fail(f"kernel_shape {kernel} does not match {x.type}")
    if x.type.rank not in (3, 4):
        node.fail(f"{x.type.rank - 2}-D pooling is not supported; 1-D and 2-D are")
    if any(k < 1 for k in kernel):
        node.fail(f"kernel_shape {kernel} is not a window")
    strides, dilations, pads = import_window(node, kernel, x.type.shape[2:])
    # SAME padding already makes the last window whole.
    ceil_mode = bool(node.attr("ceil_mode", 0)) and node.attr("auto_pad", "NOTSET") in (
        "NOTSET",
        "VALID",
    )
    attrs = attrs_of(
        kernel=(1, *kernel)[-2:],
        strides=strides,
        pads=pads,
        dilations=dilations,
        ceil_mode=ceil_mode,
    )
    return emit_2d(out, op, x, attrs)


def emit_2d(out: ImportContext, op: OpDef, x: Value, attrs: Any) -> Sequence[Value]:
    """A pooling node on [N,C,H,W], or on [N,C,W] with a height of 1 put in and taken out."""
    if x.type.rank == 4:
        return out.emit(op, [x], attrs)
    reshape = out.op("reshape")
    n, c, width = x.type.shape
    x = out.emit(reshape, [x], reshape.attrs((n, c, 1, width)), ".4d")[0]
    (y,) = out.emit(op, [x], attrs)
    return out.emit(reshape, [y], reshape.attrs((n, c, y.type.shape[3])), ".3d")


def export_pool(node: Node, out: ExportContext, op_type: str, **more: Any) -> None:
    attrs: PoolAttrs = node.attrs
    if attrs.dilations != (1, 1):  # an attribute of AveragePool only since opset 19
        more["dilations"] = attrs.dilations

    def write(y: str) -> None:
        out.node(
            op_type,
            [out.name(node.inputs[0])],
            [y],
            kernel_shape=attrs.kernel,
            strides=attrs.strides,
            pads=attrs.pads,
            ceil_mode=int(attrs.ceil_mode),
            **more,
        )

    export_clamped(node, out, write)

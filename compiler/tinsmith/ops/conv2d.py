"""2-D convolution: any stride, padding, dilation and groups; depthwise is groups = channels.

Float: conv2d(x, filter, bias). Lowered int8: conv2d(x, filter, bias, multiplier, shift), the last
three per output channel.
Layout: NCHW and OIHW filters as imported, NHWC and OHWI filters after `legalize_layout`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..ir.dtypes import Array, Shape, TensorType
from ..ir.graph import Node, Value
from ..ir.opdef import Absent, Case, IntegerRule, OpDef, WeightInput
from ..quant.arithmetic import requantize, saturate
from ._clamp import INF, export_clamped
from ._onnx import ExportContext, ImportContext, OnnxNode
from ._rescale import lower_weighted
from ._window import Pads, Pair, import_window, output_size, patches


@dataclass(frozen=True)
class Conv2dAttrs:
    """clamp: real bounds of a fused activation; q_clamp: the same in the output's integers."""

    strides: Pair = (1, 1)
    pads: Pads = (0, 0, 0, 0)
    dilations: Pair = (1, 1)
    groups: int = 1
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    clamp: tuple[float, float] = (-INF, INF)
    q_clamp: tuple[int, int] = (-128, 127)


def infer(types: Sequence[TensorType], attrs: Conv2dAttrs) -> Sequence[TensorType]:
    if len(types) not in (3, 5):
        raise ValueError(f"takes 3 inputs, or 5 when lowered, not {len(types)}")
    x, w, bias = types[:3]
    if x.rank != 4 or w.rank != 4:
        raise ValueError(f"takes a 4-D input and filter, not {x} and {w}")
    n, height, width, channels = _nhwc(x.shape, attrs)
    out, kh, kw, per_group = _ohwi(w.shape, attrs)
    if channels != per_group * attrs.groups or out % attrs.groups:
        raise ValueError(
            f"{channels} input and {out} output channels do not match a filter over {per_group} "
            f"channels in {attrs.groups} group(s)"
        )
    if any(t.shape != (out,) for t in (bias, *types[3:])):
        raise ValueError(f"expected a bias of {out} elements, not {bias}")
    oh, ow = output_size((height, width), (kh, kw), attrs)
    shape = (n, oh, ow, out) if attrs.layout == "NHWC" else (n, out, oh, ow)
    return (TensorType(shape, x.dtype),)


def reference(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """x·filter + bias, clamped. Shapes as in `infer`; float32."""
    attrs: Conv2dAttrs = node.attrs
    x, w, bias = arrays
    if attrs.layout == "NCHW":
        x, w = x.transpose(0, 2, 3, 1), w.transpose(0, 2, 3, 1)
    y = _correlate(x, w, attrs, 0.0) + bias
    y = np.clip(y, *attrs.clamp).astype(np.float32)
    return (np.ascontiguousarray(y.transpose(0, 3, 1, 2)) if attrs.layout == "NCHW" else y,)


def integer_reference(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """clamp(requantize(Σ (x − z_x)·w + bias) + z_y); the border counts as x = z_x."""
    x, w, bias, multiplier, shift = arrays
    exact = _exact_float(w)
    centred = x.astype(exact) - exact(node.x.zero_point)
    acc = _correlate(centred, w.astype(exact), node.attrs, 0.0).astype(np.int64) + bias
    y = requantize(acc, multiplier, shift) + node.y.zero_point
    return (saturate(y, *node.attrs.q_clamp),)


def _exact_float(w: Array) -> type[np.float32] | type[np.float64]:
    """The fastest type in which every partial sum of w·(x − z) is an exact integer."""
    largest = np.abs(w.astype(np.int64)).reshape(w.shape[0], -1).sum(axis=1).max(initial=0) * 255
    return np.float32 if largest < 2**24 else np.float64


def macs(node: Node) -> int:
    _, kh, kw, per_group = _ohwi(node.inputs[1].type.shape, node.attrs)
    return node.y.elements * kh * kw * per_group


def import_conv(node: OnnxNode, out: ImportContext) -> Sequence[Value]:
    """ONNX Conv, 2-D or 1-D (as height 1)."""
    x, w = node.x(0), node.x(1)
    if x.type.rank not in (3, 4) or w.type.rank != x.type.rank:
        node.fail(f"{x.type.rank - 2}-D convolution is not supported; 1-D and 2-D are")
    kernel = tuple(node.attr("kernel_shape", w.type.shape[2:]))
    if kernel != w.type.shape[2:]:
        node.fail(f"kernel_shape {kernel} is not the filter's {w.type.shape[2:]}")
    strides, dilations, pads = import_window(node, kernel, x.type.shape[2:])
    attrs = Conv2dAttrs(strides, pads, dilations, node.attr("group", 1))
    channels = w.type.shape[0]
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    bias = bias or out.constant("bias", np.zeros(channels, np.float32))
    one_d = x.type.rank == 3
    if one_d:
        unsqueeze = out.op("reshape")
        x, w = (
            out.emit(unsqueeze, [v], unsqueeze.attrs(_with_height(v.type.shape)), ".4d")[0]
            for v in (x, w)
        )
    outputs = out.emit(OP, [x, w, bias], attrs)
    if not one_d:
        return outputs
    n, c, _, width = outputs[0].type.shape
    return out.emit(out.op("reshape"), outputs, out.op("reshape").attrs((n, c, width)), ".3d")


def export(node: Node, out: ExportContext) -> None:
    """Conv, then the clamp. The node is in ONNX layout."""
    attrs: Conv2dAttrs = node.attrs

    def write(result: str) -> None:
        out.node(
            "Conv",
            [out.name(v) for v in node.inputs[:3]],
            [result],
            strides=attrs.strides,
            pads=attrs.pads,
            dilations=attrs.dilations,
            group=attrs.groups,
            kernel_shape=node.inputs[1].type.shape[2:],
        )

    export_clamped(node, out, write)


def filter_axis(attrs: Any) -> int:
    """Filters are quantised per output channel, axis 0 in both layouts."""
    del attrs
    return 0


def is_depthwise(node: Node) -> bool:
    """One input channel per group, in NHWC."""
    return node.attrs.groups > 1 and node.inputs[1].type.shape[3] == 1


def _with_height(shape: Shape) -> Shape:
    return (*shape[:2], 1, shape[2])


def _nhwc(shape: Shape, attrs: Conv2dAttrs) -> Shape:
    return shape if attrs.layout == "NHWC" else (shape[0], shape[2], shape[3], shape[1])


def _ohwi(shape: Shape, attrs: Conv2dAttrs) -> Shape:
    return _nhwc(shape, attrs)


def _correlate(x: Array, w: Array, attrs: Conv2dAttrs, fill: float) -> Array:
    """NHWC input, OHWI filter → NHWC sums; exact for integers held in float64."""
    out, kh, kw, per_group = w.shape
    size = output_size((x.shape[1], x.shape[2]), (kh, kw), attrs)
    windows = patches(x, (kh, kw), size, attrs, fill)
    n, oh, ow = windows.shape[:3]
    per_out = out // attrs.groups
    if per_group == 1 and per_out == 1:
        return np.einsum("nhwijc,cij->nhwc", windows, w[..., 0], optimize=True)
    y = np.empty((n, oh, ow, out), np.result_type(x, w))
    for g in range(attrs.groups):
        columns = windows[..., g * per_group : (g + 1) * per_group].reshape(n * oh * ow, -1)
        filters = w[g * per_out : (g + 1) * per_out].reshape(per_out, -1)
        y[..., g * per_out : (g + 1) * per_out] = (columns @ filters.T).reshape(n, oh, ow, per_out)
    return y


CASES = (
    Case("pointwise", ((1, 8, 6, 6),), params=((16, 8, 1, 1), (16,)), attrs=Conv2dAttrs()),
    Case("pointwise_odd", ((1, 5, 7, 3),), params=((7, 5, 1, 1), (7,)), attrs=Conv2dAttrs()),
    Case(
        "same_3x3_relu",
        ((1, 4, 9, 9),),
        params=((6, 4, 3, 3), (6,)),
        attrs=Conv2dAttrs(pads=(1, 1, 1, 1), clamp=(0.0, INF)),
    ),
    Case(
        "stride2_relu6",
        ((1, 3, 16, 15),),
        params=((8, 3, 3, 3), (8,)),
        attrs=Conv2dAttrs((2, 2), (0, 0, 1, 1), clamp=(0.0, 6.0)),
    ),
    Case(
        "asymmetric_kernel",
        ((1, 1, 25, 10),),
        params=((8, 1, 10, 4), (8,)),
        attrs=Conv2dAttrs((2, 2), (4, 1, 5, 1)),
    ),
    Case(
        "dilated",
        ((1, 4, 11, 12),),
        params=((4, 4, 3, 3), (4,)),
        attrs=Conv2dAttrs((1, 2), (2, 2, 2, 2), (2, 2)),
    ),
    Case(
        "grouped",
        ((1, 8, 7, 7),),
        params=((12, 2, 3, 3), (12,)),
        attrs=Conv2dAttrs(pads=(1, 1, 1, 1), groups=4),
    ),
    Case(
        "wide",
        ((1, 32, 5, 5),),
        params=((32, 32, 3, 3), (32,)),
        attrs=Conv2dAttrs(pads=(1, 1, 1, 1)),
    ),
    Case(
        "row",
        ((1, 16, 1, 20),),
        params=((16, 16, 1, 5), (16,)),
        attrs=Conv2dAttrs(pads=(0, 2, 0, 2)),
    ),
    Case(
        "depthwise",
        ((1, 16, 9, 8),),
        params=((16, 1, 3, 3), (16,)),
        attrs=Conv2dAttrs(pads=(1, 1, 1, 1), groups=16, clamp=(0.0, INF)),
    ),
    Case(
        "depthwise_stride2_odd",
        ((1, 7, 12, 11),),
        params=((7, 1, 3, 3), (7,)),
        attrs=Conv2dAttrs((2, 2), (0, 0, 1, 1), groups=7),
    ),
    Case(
        "depthwise_5x5",
        ((1, 12, 10, 10),),
        params=((12, 1, 5, 5), (12,)),
        attrs=Conv2dAttrs((2, 2), (2, 2, 2, 2), groups=12),
    ),
    Case(
        "depthwise_7x7",
        ((1, 6, 10, 9),),
        params=((6, 1, 7, 7), (6,)),
        attrs=Conv2dAttrs(pads=(3, 3, 3, 3), groups=6),
    ),
    Case(
        "depthwise_multiplier",
        ((1, 3, 8, 8),),
        params=((6, 1, 3, 3), (6,)),
        attrs=Conv2dAttrs(pads=(1, 1, 1, 1), groups=3),
    ),
)

OP = OpDef(
    name="conv2d",
    attrs=Conv2dAttrs,
    infer=infer,
    reference=reference,
    integer=IntegerRule(
        lower=lower_weighted,
        reference=integer_reference,
        weight=WeightInput(index=1, axis=filter_axis, bias_index=2),
    ),
    macs=macs,
    onnx_import={"Conv": import_conv},
    onnx_export=export,
    cases=CASES,
    gradient=Absent("select_updates turns it into conv2d_trainable"),
)

"""Nearest-neighbour upsampling by whole factors: every pixel is repeated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..ir.dtypes import Array, Shape, TensorType
from ..ir.graph import Node, Value
from ..ir.opdef import Case, IntegerRule, OpDef, no_macs
from ._movement import lower_movement
from ._onnx import ExportContext, ImportContext, OnnxNode
from ._window import Pair


@dataclass(frozen=True)
class ResizeAttrs:
    """scales: how often each row and each column is repeated."""

    scales: Pair = (1, 1)
    layout: Literal["NCHW", "NHWC"] = "NCHW"


def infer(types: Sequence[TensorType], attrs: ResizeAttrs) -> Sequence[TensorType]:
    (x,) = types
    if x.rank != 4 or min(attrs.scales) < 1:
        raise ValueError(f"cannot repeat the pixels of {x} {attrs.scales} times")
    shape = list(x.shape)
    for axis, scale in zip(spatial_axes(attrs), attrs.scales, strict=True):
        shape[axis] *= scale
    return (x.with_shape(tuple(shape)),)


def spatial_axes(attrs: ResizeAttrs) -> Pair:
    return (1, 2) if attrs.layout == "NHWC" else (2, 3)


def reference(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """Rows, then columns repeated; any dtype."""
    y = arrays[0]
    for axis, scale in zip(spatial_axes(node.attrs), node.attrs.scales, strict=True):
        y = y.repeat(scale, axis=axis)
    return (y,)


def import_resize(node: OnnxNode, out: ImportContext) -> Sequence[Value]:
    """ONNX Resize, where it amounts to repeating pixels."""
    x = node.x(0)
    mode = node.attr("mode", "nearest")
    if mode != "nearest":
        node.fail(f"mode {mode!r} is not supported; nearest is")
    sizes = _output_sizes(node, x.type.shape)
    if x.type.rank not in (3, 4) or sizes[:2] != x.type.shape[:2]:
        node.fail(f"{x.type} to {list(sizes)} is not supported; only the last axes may grow")
    scales: list[int] = []
    for old, new in zip(x.type.shape[2:], sizes[2:], strict=True):
        if new % old:
            node.fail(f"{old} to {new} is not supported; whole factors are")
        scale = new // old
        picked = _picked(node, old, new)
        if not np.array_equal(picked, np.repeat(np.arange(old), scale)):
            node.fail(
                f"coordinate_transformation_mode {_coordinates(node)!r} with nearest_mode "
                f"{_nearest(node)!r} does not repeat pixels evenly at a factor of {scale}; "
                "'asymmetric' with 'floor' does"
            )
        scales.append(scale)
    if all(s == 1 for s in scales):
        return (x,)
    if x.type.rank == 4:
        return out.emit(OP, [x], ResizeAttrs((scales[0], scales[1])))
    n, c, width = x.type.shape
    reshape = out.op("reshape")
    flat = out.emit(reshape, [x], reshape.attrs((n, c, 1, width)), ".4d")
    (y,) = out.emit(OP, flat, ResizeAttrs((1, scales[0])))
    return out.emit(reshape, [y], reshape.attrs((n, c, sizes[2])), ".3d")


def export(node: Node, out: ExportContext) -> None:
    scales = np.ones(4, np.float32)
    scales[list(spatial_axes(node.attrs))] = node.attrs.scales
    out.node(
        "Resize",
        [out.name(node.inputs[0]), "", out.constant("scales", scales)],
        [out.name(node.outputs[0])],
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


def _output_sizes(node: OnnxNode, shape: Shape) -> Shape:
    """The whole output shape, from `scales` or `sizes`, over all axes or those in `axes`."""
    scales, sizes = node.array(2), node.integers(3)
    axes = [node.axis(a, len(shape)) for a in node.attr("axes", tuple(range(len(shape))))]
    result = list(shape)
    if sizes:
        if node.attr("keep_aspect_ratio_policy", "stretch") != "stretch":
            node.fail("only the keep_aspect_ratio_policy 'stretch' is supported")
        given = list(sizes)
    elif scales is not None and np.size(scales):
        if scales.dtype.kind != "f" or not np.isfinite(scales).all():
            node.fail(f"its scales {np.ravel(scales).tolist()} are not real numbers")
        given = [int(shape[a] * s) for a, s in zip(axes, np.ravel(scales).tolist(), strict=False)]
    else:
        node.fail("neither scales nor sizes are given")
    if len(given) != len(axes):
        node.fail(f"{len(given)} scales or sizes do not match {len(axes)} axes")
    for axis, size in zip(axes, given, strict=True):
        result[axis] = size
    return tuple(result)


def _coordinates(node: OnnxNode) -> str:
    return node.attr("coordinate_transformation_mode", "half_pixel")


def _nearest(node: OnnxNode) -> str:
    return node.attr("nearest_mode", "round_prefer_floor")


def _picked(node: OnnxNode, old: int, new: int) -> Array:
    """The input position of each output position along one axis (ONNX Resize, nearest)."""
    i = np.arange(new, dtype=np.float64)
    coordinates = _coordinates(node)
    if coordinates in ("half_pixel", "half_pixel_symmetric"):
        position = (i + 0.5) * old / new - 0.5
    elif coordinates == "pytorch_half_pixel":
        position = (i + 0.5) * old / new - 0.5 if new > 1 else 0 * i
    elif coordinates == "asymmetric":
        position = i * old / new
    elif coordinates == "align_corners":
        position = i * (old - 1) / max(new - 1, 1)
    else:
        node.fail(f"coordinate_transformation_mode {coordinates!r} is not supported")
    rules = {
        "floor": np.floor(position),
        "ceil": np.ceil(position),
        "round_prefer_floor": np.ceil(position - 0.5),
        "round_prefer_ceil": np.floor(position + 0.5),
    }
    if _nearest(node) not in rules:
        node.fail(f"nearest_mode {_nearest(node)!r} is not one of {', '.join(rules)}")
    return np.clip(rules[_nearest(node)], 0, old - 1).astype(np.int64)


CASES = (
    Case("2x2", ((1, 4, 3, 5),), ResizeAttrs((2, 2))),
    Case("wide", ((1, 3, 4, 3),), ResizeAttrs((1, 3))),
    Case("tall_odd", ((1, 7, 1, 5),), ResizeAttrs((3, 2))),
)

OP = OpDef(
    name="resize",
    attrs=ResizeAttrs,
    infer=infer,
    reference=reference,
    integer=IntegerRule(lower=lower_movement, reference=reference, output="as_input"),
    macs=no_macs,
    onnx_import={"Resize": import_resize},
    onnx_export=export,
    cases=CASES,
)

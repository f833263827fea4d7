"""int8 conv2d and dense nodes of sizes that tiles and vectors do not divide, as graphs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tinsmith.ir.dtypes import Array, DType, TensorType, int8
from tinsmith.ir.graph import Graph, Node, Stage, Value
from tinsmith.ops import registry
from tinsmith.ops.conv2d import Conv2dAttrs
from tinsmith.ops.dense import DenseAttrs

NHWC = Conv2dAttrs(layout="NHWC")


@dataclass(frozen=True)
class Shape:
    """A convolution in NHWC. x: input; o: output channels; k: filter; groups as in conv2d."""

    x: tuple[int, int, int, int]
    o: int
    k: tuple[int, int]
    attrs: Conv2dAttrs = NHWC


def _attrs(**changes: object) -> Conv2dAttrs:
    return replace(NHWC, **changes)  # pyright: ignore[reportArgumentType]


def _depthwise(x: tuple[int, int, int, int], k: tuple[int, int], **changes: object) -> Shape:
    return Shape(x, x[3], k, _attrs(groups=x[3], **changes))


SHAPES = {
    "pixels_no_tile_divides": Shape((1, 11, 13, 24), 40, (1, 1)),
    "wide_blocks": Shape((1, 5, 7, 20), 200, (3, 3), _attrs(pads=(1, 1, 1, 1))),
    "batch": Shape((3, 5, 6, 3), 17, (3, 2), _attrs(strides=(2, 1), pads=(1, 0, 1, 1))),
    "pointwise_stride2": Shape((2, 9, 9, 13), 64, (1, 1), _attrs(strides=(2, 2))),
    "dilated": Shape((1, 12, 11, 6), 20, (3, 3), _attrs(dilations=(2, 3), pads=(2, 3, 2, 3))),
    "groups_odd": Shape((2, 6, 7, 15), 25, (3, 3), _attrs(groups=5, pads=(1, 1, 1, 1))),
    "padding_beyond_a_row": Shape((1, 2, 2, 4), 8, (5, 5), _attrs(pads=(4, 4, 4, 4))),
    "one_channel_deep": Shape((1, 30, 9, 1), 33, (9, 5), _attrs(strides=(2, 2), pads=(4, 2, 4, 2))),
    "unread_border": Shape((1, 8, 9, 4), 16, (2, 2), _attrs(strides=(3, 3))),
    "depthwise_period": _depthwise((1, 9, 11, 24), (3, 3), pads=(1, 1, 1, 1)),
    "depthwise_odd_channels": _depthwise((2, 7, 10, 37), (3, 3), pads=(1, 1, 1, 1)),
    "depthwise_whole_pixels": _depthwise((1, 4, 5, 297), (3, 3), pads=(1, 1, 1, 1)),
    "depthwise_tall": _depthwise((1, 13, 6, 16), (5, 3), pads=(2, 1, 2, 1)),
    "depthwise_7x7_stride": _depthwise((1, 15, 15, 20), (7, 7), strides=(2, 2), pads=(3, 3, 3, 3)),
    "depthwise_stride3": _depthwise((1, 10, 17, 12), (3, 5), strides=(1, 3), pads=(0, 1, 0, 1)),
    "depthwise_dilated": _depthwise((1, 12, 12, 8), (3, 3), dilations=(2, 2), strides=(1, 2)),
    "depthwise_row": _depthwise((1, 1, 40, 48), (1, 5), pads=(0, 2, 0, 2)),
    "depthwise_tiny": _depthwise((1, 3, 3, 2), (3, 3), pads=(1, 1, 1, 1)),
    "depthwise_inside": _depthwise((1, 9, 9, 64), (3, 3)),
}
EDGES = ("weights_of_minus_128", "small_shifts", "dead_channels", "clamped", "high_zero_point")


def _constants(shape: Sequence[int], edge: str, rng: np.random.Generator) -> list[Array]:
    """Filter, bias, multiplier, shift of a lowered node."""
    out, depth = shape[0], int(np.prod(shape[1:]))
    low = -128 if edge == "weights_of_minus_128" else -127
    w = rng.integers(low, 128, tuple(shape)).astype(np.int8)
    if edge == "weights_of_minus_128":
        w[: out // 2] = -128
    bias = rng.integers(-5000, 5000, out).astype(np.int32)
    multiplier = rng.integers(2**30, 2**31, out).astype(np.int32)
    shift = np.full(out, -int(np.log2(depth * 20)), np.int32) + rng.integers(-1, 2, out)
    if edge == "small_shifts":
        w, shift = np.clip(w, -1, 1), rng.integers(-3, 3, out)
    if edge == "dead_channels":
        shift[::2] = rng.integers(-30, -22, len(shift[::2]))
        multiplier[1::3], shift[1::3] = 0, 0
    return [w, bias, multiplier, shift.astype(np.int32)]


def _graph(shape: Shape, edge: str = "") -> Graph:
    rng = np.random.default_rng(5)
    filters = (shape.o, *shape.k, shape.x[3] // shape.attrs.groups)
    attrs = replace(shape.attrs, q_clamp=(-17, 90)) if edge == "clamped" else shape.attrs
    return one_node("conv2d", shape.x, _constants(filters, edge, rng), attrs, edge)


def one_node(
    op: str, x: tuple[int, ...], constants: list[Array], attrs: object, edge: str
) -> Graph:
    names = ("w", "bias", "multiplier", "shift")
    parts = [
        Value(n, TensorType(a.shape, DType(str(a.dtype))))
        for n, a in zip(names, constants, strict=True)
    ]
    zero_point = 127 if edge == "high_zero_point" else -11
    inputs = (Value("x", int8(x, 0.1, zero_point)), *parts)
    made = registry()[op].infer([v.type for v in inputs], attrs)[0]
    y = Value("y", int8(made.shape, 0.1, 127 if edge == "high_zero_point" else 9))
    node = Node(registry()[op], inputs, (y,), attrs)
    return Graph(
        op, inputs[:1], (y,), dict(zip(parts, constants, strict=True)), (node,), Stage.QUANTIZED
    )


def _dense(rows: tuple[int, ...], depth: int, out: int, edge: str = "") -> Graph:
    constants = _constants((out, depth), edge, np.random.default_rng(6))
    return one_node("dense", (*rows, depth), constants, DenseAttrs(), edge)


GRAPHS = {
    **{name: _graph(shape) for name, shape in SHAPES.items()},
    **{
        f"{name}_{e}": _graph(SHAPES[name], e)
        for e in EDGES
        for name in ("batch", "depthwise_period")
    },
    "dense_one_row": _dense((1,), 70, 100),
    "dense_rows": _dense((3, 5), 33, 19),
    "dense_narrow": _dense((1,), 64, 3, "weights_of_minus_128"),
}

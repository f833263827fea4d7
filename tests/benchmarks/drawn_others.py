"""Layers that are no convolutions, of the sizes that small networks have, drawn with a seed: what
their kernels are measured on. Every kind of them is as frequent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from tinsmith.ir.dtypes import Quant
from tinsmith.ir.graph import Graph, Value
from tinsmith.ops._clamp import UNBOUNDED
from tinsmith.ops._pool import PoolAttrs
from tinsmith.ops._sum import SumAttrs
from tinsmith.ops.average_pool import AveragePoolAttrs
from tinsmith.ops.conv2d import Conv2dAttrs
from tinsmith.ops.dense import DenseAttrs
from tinsmith.ops.max_pool import MaxPoolAttrs
from tinsmith.ops.mul import MulAttrs
from tinsmith.ops.pad import PadAttrs
from tinsmith.ops.reduce_mean import ReduceMeanAttrs
from tinsmith.ops.resize import ResizeAttrs
from tinsmith.ops.slice import SliceAttrs
from tinsmith.ops.softmax import SoftmaxAttrs
from tinsmith.ops.transpose import TransposeAttrs

from ..int8_nets import Int8Net

MOST_BYTES = 50_000  # of an input
_CHANNELS = (8, 16, 16, 24, 32, 32, 40, 48, 64, 64, 96, 128)

Shape = tuple[int, int, int, int]


def drawn_others(seed: int, count: int) -> Graph:
    """Layers side by side."""
    rng = np.random.default_rng(seed)
    net = Int8Net("drawn", seed)
    kinds = list(_KINDS.values())
    return net.build(*(kinds[i % len(kinds)](net, rng) for i in range(count)))


def _shape(rng: np.random.Generator, *, fours: float = 0.8) -> Shape:
    """fours: how often the channels are a multiple of four."""
    while True:
        height = int(rng.integers(2, 33))
        width = height if rng.random() < 0.6 else int(rng.integers(2, 33))
        odd = rng.random() >= fours
        channels = int(rng.integers(1, 60) if odd else rng.choice(_CHANNELS))
        if height * width * channels <= MOST_BYTES:
            return 1, height, width, channels


def _clamp(rng: np.random.Generator) -> tuple[float, float]:
    return (-0.3, 1.0) if rng.random() < 0.2 else (0.0, np.inf) if rng.random() < 0.3 else UNBOUNDED


def _dense(net: Int8Net, rng: np.random.Generator) -> Value:
    """With a scale per channel, or one for all; at times of an extreme weight, or a convolution
    of a pixel."""
    features, out = (
        int(rng.integers(1, 80) if rng.random() < 0.4 else rng.choice(_CHANNELS)) for _ in range(2)
    )
    features *= int(rng.choice([1, 2, 4, 10]))
    out = out if rng.random() < 0.7 else int(rng.choice([2, 10, 12]))
    rows = 1 if rng.random() < 0.75 else int(rng.integers(2, 5))
    pixel = rng.random() < 0.3
    flat = net.input(1, 1, 1, features) if pixel else net.input(rows, features)
    op, shape = ("conv2d", (out, 1, 1, features)) if pixel else ("dense", (out, features))
    clamp = _clamp(rng)
    attrs = Conv2dAttrs(clamp=clamp, layout="NHWC") if pixel else DenseAttrs(clamp)
    if rng.random() < 0.4:
        return net.add(op, [flat, *net.weights(flat, shape, features)], attrs)
    one = Quant((0.008 / features**0.5,) * out, (0,) * out, 0)
    sums = Quant(tuple(s * flat.type.scale for s in one.scale), (0,) * out, 0)
    filters = rng.integers(-127, 128, shape).astype(np.int8)
    if rng.random() < 0.4:
        filters[0] = -128  # two channels no longer share a word
    bias = rng.integers(-2000, 2000, out).astype(np.int32)
    inputs = [flat, net.constant("w", filters, one), net.constant("b", bias, sums)]
    return net.add(op, inputs, attrs)


def _pool(form: type[PoolAttrs]) -> Callable[[Int8Net, np.random.Generator], Value]:
    kind = "max_pool" if form is MaxPoolAttrs else "average_pool"

    def pool(net: Int8Net, rng: np.random.Generator) -> Value:
        shape = _shape(rng)
        while min(shape[1:3]) < 4:
            shape = _shape(rng)
        sides = shape[1:3]
        side = int(rng.choice([2, 2, 3, 3, 5, 7]))
        kernel = min(side, sides[0]), min(side, sides[1])
        if rng.random() < 0.2:
            height, width = (min(int(rng.integers(1, 6)), s) for s in sides)
            kernel = height, width
        stride = int(rng.choice([1, 2, 2, min(side, 3)]))
        pads = [
            max((-(-s // stride) - 1) * stride + k - s, 0)
            for s, k in zip(sides, kernel, strict=True)
        ]
        pads = pads if rng.random() < 0.4 else [0, 0]
        top, left = pads[0] // 2, pads[1] // 2
        attrs = form(
            kernel, (stride, stride), (top, left, pads[0] - top, pads[1] - left),
            layout="NHWC", clamp=_clamp(rng),
        )  # fmt: skip
        if isinstance(attrs, AveragePoolAttrs) and rng.random() < 0.5:
            attrs = replace(attrs, count_include_pad=True)
        return net.add(kind, [net.input(*shape)], attrs)

    return pool


def _mean(net: Int8Net, rng: np.random.Generator) -> Value:
    height = int(rng.integers(1, 17))
    width = height if rng.random() < 0.6 else int(rng.integers(1, 17))
    *_, channels = _shape(rng, fours=0.9)
    channels = channels if rng.random() < 0.8 else int(rng.choice([256, 512]))
    axes = (1, 2) if rng.random() < 0.75 else ((3,), (1,), (2,))[int(rng.integers(3))]
    return net.add("reduce_mean", [net.input(1, height, width, channels)], ReduceMeanAttrs(axes))


def _binary(op: str, form: type[SumAttrs | MulAttrs]) -> Callable[..., Value]:
    def binary(net: Int8Net, rng: np.random.Generator) -> Value:
        shape = _shape(rng, fours=0.6)
        other = shape
        if rng.random() < 0.4:  # a gate, or a value for each pixel
            other = (1, 1, 1, shape[3]) if rng.random() < 0.7 else (*shape[:3], 1)
        return net.add(op, [net.input(*shape), net.input(*other)], form(_clamp(rng)))

    return binary


def _softmax(net: Int8Net, rng: np.random.Generator) -> Value:
    rows = 1 if rng.random() < 0.6 else int(rng.integers(2, 40))
    return net.add("softmax", [net.input(rows, int(rng.integers(2, 60)))], SoftmaxAttrs(1))


def _lookup(net: Int8Net, rng: np.random.Generator) -> Value:
    return net.add("sigmoid", [net.input(*_shape(rng, fours=0.6))])


def _concat(net: Int8Net, rng: np.random.Generator) -> Value:
    shape, axis = _shape(rng, fours=0.7), int(rng.choice([1, 3, 3]))
    parts = [net.input(*shape)]
    for _ in range(int(rng.integers(1, 3))):
        size = int(rng.integers(1, 8)) if axis == 1 else _shape(rng, fours=0.7)[3]
        parts.append(net.input(*shape[:axis], size, *shape[axis + 1 :]))
    return net.concat(parts, axis)


def _split(net: Int8Net, rng: np.random.Generator) -> Value:
    shape = _shape(rng)
    first = int(rng.integers(1, shape[3] + 1)) if rng.random() < 0.3 else (shape[3] + 1) // 2
    sizes = [first, shape[3] - first] if first < shape[3] else [first]
    return net.split(net.input(*shape), sizes)[0]


def _slice(net: Int8Net, rng: np.random.Generator) -> Value:
    shape, axis = _shape(rng), int(rng.choice([1, 2, 3]))
    step = int(rng.choice([1, 1, 2]))
    start = int(rng.integers(0, shape[axis]))
    size = int(rng.integers(1, (shape[axis] - start - 1) // step + 2))
    return net.add("slice", [net.input(*shape)], SliceAttrs((axis,), (start,), (size,), (step,)))


def _pad(net: Int8Net, rng: np.random.Generator) -> Value:
    before, after = ([int(n) for n in rng.integers(0, 3, 2)] for _ in range(2))
    axes = (1, 2) if rng.random() < 0.8 else (2, 3)
    if not any((*before, *after)):
        before = [1, 1]
    mode = "constant" if rng.random() < 0.7 else "edge"
    return net.add(
        "pad", [net.input(*_shape(rng))], PadAttrs(axes, tuple(before), tuple(after), mode)
    )


def _transpose(net: Int8Net, rng: np.random.Generator) -> Value:
    perm = ((0, 3, 1, 2), (0, 2, 1, 3), (0, 2, 3, 1))[int(rng.integers(3))]
    return net.add("transpose", [net.input(*_shape(rng))], TransposeAttrs(perm))


def _resize(net: Int8Net, rng: np.random.Generator) -> Value:
    _, height, width, channels = _shape(rng)
    shape = (1, min(height, 12), min(width, 12), channels)
    scale = int(rng.choice([2, 2, 3]))
    return net.add("resize", [net.input(*shape)], ResizeAttrs((scale, scale), "NHWC"))


def _matmul(net: Int8Net, rng: np.random.Generator) -> Value:
    rows, depth, columns = (int(n) for n in rng.integers(2, 40, 3))
    batch = int(rng.choice([1, 2, 4]))
    return net.add("matmul", [net.input(batch, rows, depth), net.input(batch, depth, columns)])


_KINDS: Mapping[str, Callable[[Int8Net, np.random.Generator], Value]] = {
    "dense": _dense,
    "add": _binary("add", SumAttrs),
    "sub": _binary("sub", SumAttrs),
    "max_pool": _pool(MaxPoolAttrs),
    "average_pool": _pool(AveragePoolAttrs),
    "reduce_mean": _mean,
    "softmax": _softmax,
    "concat": _concat,
    "mul": _binary("mul", MulAttrs),
    "lookup": _lookup,
    "split": _split,
    "slice": _slice,
    "pad": _pad,
    "transpose": _transpose,
    "resize": _resize,
    "matmul": _matmul,
}

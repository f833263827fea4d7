"""Layers of the sizes that small networks have, drawn with a seed: what kernels are measured on."""

from __future__ import annotations

import numpy as np

from tinsmith.ir.dtypes import Quant
from tinsmith.ir.graph import Graph, Value
from tinsmith.ops._clamp import UNBOUNDED
from tinsmith.ops.conv2d import Conv2dAttrs
from tinsmith.ops.reduce_mean import ReduceMeanAttrs
from tinsmith.ops.reshape import ReshapeAttrs

from ..int8_nets import Int8Net

MOST_MACS = 1_500_000


def drawn_layers(seed: int, count: int) -> Graph:
    """Layers side by side, of the sizes that small networks have."""
    rng = np.random.default_rng(seed)
    net = Int8Net("drawn", seed)
    made: list[Value] = []
    while len(made) < count:
        height = int(rng.integers(2, 33))
        width = height if rng.random() < 0.6 else int(rng.integers(2, 33))
        channels, out = (_channels(rng) for _ in range(2))
        if rng.random() < 0.25:
            made.append(_other(net, rng, (1, height, width, channels)))
        elif rng.random() < 0.2:
            x = net.input(1, 1, 1, int(rng.choice([1, 2, 4, 10]) * channels))
            made.append(_dense(net, rng, x, int(rng.choice([out, 2, 10, 12]))))
        else:
            y = _window(net, rng, (height, width, channels), out)
            made += [y] if y is not None else []
    return net.build(*made)


def _dense(net: Int8Net, rng: np.random.Generator, x: Value, out: int) -> Value:
    """With a scale per channel, or one for all."""
    if rng.random() < 0.5:
        return net.dense(x, out)
    features = x.type.elements
    flat = net.add("reshape", [x], ReshapeAttrs((1, features)))
    one = Quant((0.008 / features**0.5,) * out, (0,) * out, 0)
    sums = Quant(tuple(s * x.type.scale for s in one.scale), (0,) * out, 0)
    filters = rng.integers(-127, 128, (out, features)).astype(np.int8)
    bias = rng.integers(-2000, 2000, out).astype(np.int32)
    return net.add("dense", [flat, net.constant("w", filters, one), net.constant("b", bias, sums)])


def _channels(rng: np.random.Generator) -> int:
    if rng.random() < 0.1:
        return int(rng.integers(1, 60))
    return int(rng.choice([8, 16, 24, 32, 40, 48, 64, 80, 96, 128, 4 * rng.integers(1, 33)]))


def _window(
    net: Int8Net, rng: np.random.Generator, shape: tuple[int, int, int], out: int
) -> Value | None:
    height, width, channels = shape
    kind = str(rng.choice(["point", "window", "window", "first", "depthwise", "depthwise"]))
    channels = int(rng.integers(1, 4)) if kind == "first" else channels
    out = channels if kind == "depthwise" else out
    size = (1, 1) if kind == "point" else _kernel(rng, square=kind != "first")
    size = (min(size[0], 3), min(size[1], 3)) if kind == "window" else size
    stride = int(rng.choice([1, 1, 2] if kind != "point" else [1, 1, 1, 2]))
    groups = channels if kind == "depthwise" else 1
    macs = height * width * out * size[0] * size[1] * channels // groups // stride**2
    if macs > MOST_MACS or height < size[0] or width < size[1]:
        return None
    # As TensorFlow pads: at stride 2 an even size has one less at the top.
    pads = [
        max((-(-s // stride) - 1) * stride + k - s, 0)
        for s, k in zip((height, width), size, strict=True)
    ]
    before = [p // 2 for p in pads]
    after = [p - b for p, b in zip(pads, before, strict=True)]
    clamp = (0.0, 1.0) if rng.random() < 0.3 else UNBOUNDED
    attrs = Conv2dAttrs(
        (stride, stride), (*before, *after), groups=groups, clamp=clamp, layout="NHWC"
    )
    x = net.input(1, height, width, channels)
    per_group = channels // groups
    weights = net.weights(x, (out, *size, per_group), size[0] * size[1] * per_group)
    return net.add("conv2d", [x, *weights], attrs)


def _kernel(rng: np.random.Generator, *, square: bool) -> tuple[int, int]:
    side = int(rng.choice([3, 3, 3, 5, 7]))
    if square or rng.random() < 0.7:
        return side, side
    return int(rng.integers(1, 11)), int(rng.integers(1, 6))


def _other(net: Int8Net, rng: np.random.Generator, shape: tuple[int, ...]) -> Value:
    kind = str(rng.choice(["add", "reduce_mean", "max_pool", "average_pool", "softmax", "concat"]))
    x = net.input(*shape)
    if kind == "add":
        return net.add("add", [x, net.input(*shape)])
    if kind == "reduce_mean":
        return net.add("reduce_mean", [x], ReduceMeanAttrs((1, 2)))
    if kind == "softmax":
        return net.add("softmax", [net.input(1, shape[-1])])
    if kind == "concat":
        return net.concat([x, net.input(*shape)])
    window = int(rng.choice([2, 3, min(shape[1], shape[2])]))
    return net.pool(kind, x, window, int(rng.choice([1, 2])))

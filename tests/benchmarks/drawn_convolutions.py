"""Convolutions of the sizes that networks for microcontrollers spend their time on, drawn with a
seed: what kernels of convolutions are measured on.

Their shares are those of kinds of layers, not of models: each kernel is to see enough of them.
"""

from __future__ import annotations

import numpy as np

from tinsmith.ir.graph import Graph, Value
from tinsmith.ops._clamp import UNBOUNDED
from tinsmith.ops.conv2d import Conv2dAttrs

from ..int8_nets import Int8Net

LEAST_MACS, MOST_MACS = 30_000, 3_000_000
MOST_BYTES = 100_000  # of inputs and outputs
_KINDS = ("point", "window", "first", "depthwise")
_SHARES = (0.25, 0.3, 0.17, 0.28)
_CHANNELS = (8, 16, 16, 24, 32, 32, 40, 48, 64, 64, 80, 96, 128, 144, 192, 256)

Shape = tuple[int, int, int]


def drawn_convolutions(seed: int, count: int) -> Graph:
    """Layers side by side."""
    rng = np.random.default_rng(seed)
    net = Int8Net("drawn", seed)
    made: list[Value] = []
    while len(made) < count:
        y = _drawn(net, rng)
        made += [y] if y is not None else []
    return net.build(*made)


def _drawn(net: Int8Net, rng: np.random.Generator) -> Value | None:
    """One layer; None where it is too small, or too large."""
    kind = str(rng.choice(_KINDS, p=_SHARES))
    height, width, channels = _input(rng, kind)
    out = channels if kind == "depthwise" else _channels(rng)
    out = int(rng.choice([8, 16, 24, 32, 64])) if kind == "first" else out
    size = _window(rng, kind)
    stride = int(rng.choice([1, 1, 2] if kind != "point" else [1] * 11 + [2]))
    if height < size[0] or width < size[1]:
        return None
    pads = _pads(rng, (height, width), size, stride)
    rows, columns = (
        (s + a + b - k) // stride + 1
        for s, k, (a, b) in zip((height, width), size, pads, strict=True)
    )
    groups = channels if kind == "depthwise" else 1
    macs = rows * columns * out * size[0] * size[1] * channels // groups
    bytes_ = height * width * channels + rows * columns * out
    if not LEAST_MACS <= macs <= MOST_MACS or bytes_ > MOST_BYTES or rows * columns < 2:
        return None
    (top, bottom), (left, right) = pads
    clamp = (0.0, 1.0) if rng.random() < 0.3 else UNBOUNDED
    attrs = Conv2dAttrs(
        (stride, stride), (top, left, bottom, right), groups=groups, clamp=clamp, layout="NHWC"
    )
    per_group = channels // groups
    x = net.input(1, height, width, channels)
    weights = net.weights(x, (out, *size, per_group), size[0] * size[1] * per_group)
    return net.add("conv2d", [x, *weights], attrs)


def _input(rng: np.random.Generator, kind: str) -> Shape:
    """Of few channels large, of many small; two of three square."""
    if kind == "first":
        height, channels = int(rng.integers(24, 97)), int(rng.choice([1, 1, 2, 3, 3, 3, 4]))
        width = height if rng.random() < 0.6 else int(rng.integers(8, 65))
        return height, width, channels
    height = int(rng.choice([rng.integers(3, 13), rng.integers(6, 25), rng.integers(12, 49)]))
    width = height if rng.random() < 0.6 else int(rng.integers(3, 33))
    few = kind == "point" and rng.random() < 0.2
    return height, width, int(rng.choice([4, 8])) if few else _channels(rng)


def _channels(rng: np.random.Generator) -> int:
    chance = rng.random()
    if chance < 0.05:
        return int(rng.integers(5, 60))
    return int(4 * rng.integers(1, 33)) if chance < 0.35 else int(rng.choice(_CHANNELS))


def _window(rng: np.random.Generator, kind: str) -> tuple[int, int]:
    if kind == "point":
        return 1, 1
    chance = rng.random()
    side = int(rng.choice([3, 3, 5, 7])) if kind == "depthwise" else 3
    if kind == "depthwise" or chance < 0.75:
        return side, side
    if kind == "first":
        return int(rng.integers(1, 11)), int(rng.integers(1, 8))
    return int(rng.integers(1, 6)), int(rng.integers(1, 6))


def _pads(
    rng: np.random.Generator, shape: tuple[int, int], size: tuple[int, int], stride: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    """As TensorFlow pads: at stride 2 an even size has one less before. As PyTorch: the same
    everywhere. Or none."""
    style = str(rng.choice(["same", "same", "both", "none"]))
    if style == "none":
        return (0, 0), (0, 0)
    if style == "both":
        return (size[0] // 2,) * 2, (size[1] // 2,) * 2
    whole = [
        max((-(-s // stride) - 1) * stride + k - s, 0) for s, k in zip(shape, size, strict=True)
    ]
    return (whole[0] // 2, whole[0] - whole[0] // 2), (whole[1] // 2, whole[1] - whole[1] // 2)

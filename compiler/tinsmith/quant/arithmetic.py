"""Integer arithmetic shared by every operator: the bit-exact twin of `ts_requantize.h`.

A real factor m is multiplier · 2^(shift − 31) with multiplier in [2^30, 2^31). Requantising is one
multiplication with a single rounding, half up: (acc · multiplier + 2^(30 − shift)) >> (31 − shift).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..ir.dtypes import Array, TensorType

INT32_MAX = 2**31 - 1
MAX_RIGHT_SHIFT = 62  # beyond it the result is 0 for every int32 accumulator


def quantize_multiplier(real: float) -> tuple[int, int]:
    """(multiplier, shift) of a positive real factor; (0, 0) when it rounds every accumulator to 0.

    Raises ValueError for a factor that is not finite, negative, or 2^30 and more.
    """
    if not math.isfinite(real) or real < 0:
        raise ValueError(f"a requantisation factor must be finite and not negative, got {real}")
    if real == 0:
        return 0, 0
    mantissa, shift = math.frexp(real)
    multiplier = round(mantissa * 2**31)
    if multiplier == 2**31:
        multiplier, shift = 2**30, shift + 1
    if shift > 30:
        raise ValueError(f"the requantisation factor {real} is too large")
    if 31 - shift > MAX_RIGHT_SHIFT:
        return 0, 0
    return multiplier, shift


def quantize_multipliers(real: Sequence[float] | Array) -> tuple[Array, Array]:
    """int32 multipliers and shifts of several factors (per output channel)."""
    pairs = [quantize_multiplier(float(r)) for r in np.ravel(np.asarray(real))]
    return (
        np.array([m for m, _ in pairs], np.int32),
        np.array([s for _, s in pairs], np.int32),
    )


def requantize(acc: Array, multiplier: Array | int, shift: Array | int) -> Array:
    """int64 [..., C] accumulators inside int32 → int64, before zero point and clamp."""
    n = 31 - np.asarray(shift, np.int64)
    product = acc.astype(np.int64) * np.asarray(multiplier, np.int64)
    return (product + (np.int64(1) << (n - 1))) >> n


def saturate(values: Array, low: int = -128, high: int = 127) -> Array:
    """Clamp and store as int8."""
    return np.clip(values, low, high).astype(np.int8)


def quantize_array(real: Array, type_: TensorType) -> Array:
    """round-half-even(real / scale) + zero_point, saturated: ONNX QuantizeLinear, in float32."""
    quant = type_.quant
    if quant is None:
        raise ValueError(f"{type_} has no scale")
    scale = quant.broadcast(quant.scale, type_.rank).astype(np.float32)
    zero_point = quant.broadcast(quant.zero_point, type_.rank)
    low, high = type_.dtype.range
    q = np.rint(real.astype(np.float32) / scale).astype(np.float64) + zero_point
    return np.clip(q, low, high).astype(type_.dtype.numpy)


def dequantize_array(q: Array, type_: TensorType) -> Array:
    """scale · (q − zero_point) in float32: ONNX DequantizeLinear."""
    quant = type_.quant
    if quant is None:
        raise ValueError(f"{type_} has no scale")
    scale = quant.broadcast(quant.scale, type_.rank).astype(np.float32)
    zero_point = quant.broadcast(quant.zero_point, type_.rank)
    return ((q.astype(np.int64) - zero_point).astype(np.float32) * scale).astype(np.float32)


def quantize_clamp(clamp: tuple[float, float], type_: TensorType) -> tuple[int, int]:
    """A real clamp as integers of an int8 type; an unbounded side is the type's own bound."""
    low, high = type_.dtype.range

    def bound(real: float) -> int:
        if math.isinf(real):
            return low if real < 0 else high
        q = int(np.rint(np.float32(real) / np.float32(type_.scale))) + type_.zero_point
        return min(max(q, low), high)

    return bound(clamp[0]), bound(clamp[1])


def lookup_table(function: Callable[[Array], Array], x: TensorType, y: TensorType) -> Array:
    """The 256-entry int8 table of a unary real function, indexed by q + 128.

    `function` maps a float64 array to a float64 array. The result is rounded half up once.
    """
    q = np.arange(-128, 128, dtype=np.int64)
    real = np.asarray(function((q - x.zero_point) * float(x.scale)), np.float64)
    return saturate(np.floor(real / float(y.scale) + 0.5) + y.zero_point)


@dataclass(frozen=True)
class SumConstants:
    """y = clamp((x1·a + x2·b + c) >> n) for the int8 sum of two scaled tensors; all fits int32.

    Attributes:
        differing: how many of the 65,536 input pairs differ (by 1 LSB) from the correctly
            rounded real result; found by trying all.
    """

    a: int
    b: int
    c: int
    n: int
    differing: int


def sum_constants(x1: TensorType, x2: TensorType, y: TensorType, sign: int = 1) -> SumConstants:
    """Constants of x1 + sign·x2, with the fewest differing pairs among all shifts that fit int32.

    Raises ValueError when no shift fits (scales too far apart).
    """
    r1 = float(x1.scale) / float(y.scale)
    r2 = sign * float(x2.scale) / float(y.scale)
    q = np.arange(-128, 128, dtype=np.int64)
    real = ((q - x1.zero_point) * r1)[:, None] + ((q - x2.zero_point) * r2)[None, :]
    want = np.clip(np.floor(real + 0.5) + y.zero_point, -128, 127).astype(np.int64)
    best: SumConstants | None = None
    for n in range(24, 0, -1):
        a, b = round(r1 * 2**n), round(r2 * 2**n)
        offset = y.zero_point - x1.zero_point * r1 - x2.zero_point * r2
        c = round(offset * 2**n) + (1 << (n - 1))
        if 128 * (abs(a) + abs(b)) + abs(c) > INT32_MAX:
            continue
        got = np.clip(((q * a)[:, None] + (q * b)[None, :] + c) >> n, -128, 127)
        differing = int(np.count_nonzero(got != want))
        if best is None or differing < best.differing:
            best = SumConstants(a, b, c, n, differing)
        if differing == 0:
            break
    if best is None:
        raise ValueError(f"scales {x1.scale}, {x2.scale} → {y.scale} are too far apart")
    return best


def accumulator_bounds(
    weights: Array, bias: Array, x_low: Array | int, x_high: Array | int, x_zero_point: int
) -> tuple[Array, Array]:
    """Proven int64 bounds of Σ w·(x − z) + bias per output channel.

    weights: [O, ...] int8; x_low, x_high: bounds of x, scalars or broadcastable to weights[0].
    """
    w = weights.astype(np.int64)
    low, high = np.asarray(x_low, np.int64), np.asarray(x_high, np.int64)
    at_low, at_high = w * (low - x_zero_point), w * (high - x_zero_point)
    axes = tuple(range(1, w.ndim))
    return (
        np.minimum(at_low, at_high).sum(axes) + bias.astype(np.int64),
        np.maximum(at_low, at_high).sum(axes) + bias.astype(np.int64),
    )

"""Choosing the int8 range of a tensor from its histogram: min-max, percentile, MSE, entropy.

Every search ends in a pair (low, high) that contains 0, so that 0 is represented exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np

from ..ir.dtypes import Array
from .weights import activation_quant

Method: TypeAlias = Literal["minmax", "percentile", "mse", "entropy", "auto"]
METHODS: tuple[Method, ...] = get_args(Method)

Range: TypeAlias = tuple[float, float]
BINS = 2048
PERCENTILE = 99.99
_LEVELS = 256
_STEPS = np.linspace(0.2, 1.0, 41)
_ROUNDS = 2  # alternate shrinking the upper and the lower end this often
_WORTH = 0.98  # `auto` leaves min-max only for an error at least 2 % smaller


@dataclass(frozen=True)
class Histogram:
    """counts[i] values fell into the i-th of equal bins between low and high."""

    low: float
    high: float
    counts: Array

    @property
    def centers(self) -> Array:
        width = (self.high - self.low) / len(self.counts)
        return self.low + (np.arange(len(self.counts)) + 0.5) * width


def choose_range(histogram: Histogram, method: Method) -> tuple[Range, str]:
    """The range to quantise, and the method that chose it (`auto` names its choice)."""
    if histogram.high <= histogram.low or not histogram.counts.any():
        return (histogram.low, histogram.high), "minmax"
    if method != "auto":
        return _SEARCHES[method](histogram), method
    best, name = minmax(histogram), "minmax"
    error = _WORTH * squared_error(histogram, best)
    for candidate in ("percentile", "mse", "entropy"):
        found = _SEARCHES[candidate](histogram)
        if (e := squared_error(histogram, found)) < error:
            best, name, error = found, candidate, e
    return best, name


def minmax(histogram: Histogram) -> Range:
    """Everything seen: nothing saturates on the calibration set."""
    return min(histogram.low, 0.0), max(histogram.high, 0.0)


def percentile(histogram: Histogram, percent: float = PERCENTILE) -> Range:
    """The central `percent` of the values, half of the rest cut off on each side."""
    cumulative = np.cumsum(histogram.counts) / histogram.counts.sum()
    tail = (1 - percent / 100) / 2
    width = (histogram.high - histogram.low) / len(histogram.counts)
    first = int(np.searchsorted(cumulative, tail, side="right"))
    last = int(np.searchsorted(cumulative, 1 - tail, side="left"))
    low, high = histogram.low + first * width, histogram.low + (last + 1) * width
    return min(low, 0.0), max(min(high, histogram.high), 0.0)


def mean_squared_error(histogram: Histogram) -> Range:
    """The range with the least squared error of quantising and saturating."""
    return _shrink(histogram, squared_error)


def entropy(histogram: Histogram) -> Range:
    """The range whose 256 levels keep the most information: least Kullback-Leibler divergence.

    After S. Migacz, "8-bit inference with TensorRT" (2017), with both ends free.
    """
    return _shrink(histogram, _divergence)


def squared_error(histogram: Histogram, range_: Range) -> float:
    """Mean of (x − dequantize(quantize(x)))² over the histogram."""
    quant = activation_quant(*range_)
    scale, zero_point = quant.scale[0], quant.zero_point[0]
    x = histogram.centers
    q = np.clip(np.rint(x / scale) + zero_point, -128, 127)
    error = x - scale * (q - zero_point)
    return float((histogram.counts * error * error).sum() / histogram.counts.sum())


def _divergence(histogram: Histogram, range_: Range) -> float:
    """KL(P ‖ Q) of the clipped distribution and its version on 256 levels."""
    x, counts = histogram.centers, histogram.counts.astype(np.float64)
    # Zero is always exact, and after a ReLU a spike that would drown the rest of the distribution.
    counts[np.argmin(np.abs(x))] = 0
    inside = (x >= range_[0]) & (x <= range_[1])
    kept = counts[inside]
    if kept.sum() == 0:
        return np.inf
    clipped = kept.copy()
    clipped[0] += counts[x < range_[0]].sum()
    clipped[-1] += counts[x > range_[1]].sum()
    span = max(range_[1] - range_[0], np.finfo(np.float64).tiny)
    level = np.minimum(((x[inside] - range_[0]) / span * _LEVELS).astype(np.int64), _LEVELS - 1)
    filled = kept > 0
    mass = np.bincount(level, kept, _LEVELS)
    used = np.bincount(level, filled, _LEVELS)
    spread = np.where(filled, mass[level] / np.maximum(used[level], 1), 0.0)
    p, q = clipped / clipped.sum(), spread / spread.sum()
    seen = p > 0
    return float((p[seen] * np.log(p[seen] / np.maximum(q[seen], 1e-12))).sum())


def _shrink(histogram: Histogram, cost: Callable[[Histogram, Range], float]) -> Range:
    """Coordinate search over fractions of the full range, upper and lower end in turn."""
    full = minmax(histogram)
    low, high = full
    for _ in range(_ROUNDS):
        if full[1] > 0:
            high = min((full[1] * s for s in _STEPS[::-1]), key=lambda h: cost(histogram, (low, h)))
        if full[0] < 0:
            low = min((full[0] * s for s in _STEPS[::-1]), key=lambda v: cost(histogram, (v, high)))
    return float(low), float(high)


_SEARCHES: dict[str, Callable[[Histogram], Range]] = {
    "minmax": minmax,
    "percentile": percentile,
    "mse": mean_squared_error,
    "entropy": entropy,
}

"""Exact integers in vectors: one rounding, half up, as `quant.arithmetic.requantize`."""

from __future__ import annotations

from dataclasses import dataclass

from ...quant.arithmetic import INT32_MAX
from ._emit import Expr, Tensor, broadcast, clamp, const, vector, wide_int


@dataclass(frozen=True)
class Output:
    """Where rescaled sums go: zero point and bounds of the output's integers."""

    zero_point: int
    low: int
    high: int

    def store(self, y: Tensor, at: Expr, q: Expr, lanes: int, dtype: str) -> None:
        """Adds the zero point, clamps, stores. dtype: of q, int32 or int64."""
        shifted = q + const(self.zero_point, dtype, lanes) if self.zero_point else q
        low, high = (const(b, dtype, lanes) for b in (self.low, self.high))
        y.store(at, clamp(shifted, low, high), lanes, dtype)


def requantize(
    acc: Expr, lanes: int, multiplier: int, shift: int, largest: int
) -> tuple[Expr, str]:
    """acc (of `wide_int`) · multiplier · 2^(shift − 31), and its type: int64 if int32 is too small.

    largest: a bound of |acc|.
    """
    right = 31 - shift
    product = acc.astype(vector("int64", lanes)) * const(multiplier, "int64", lanes)
    fits = (largest * multiplier >> right) + 256 <= INT32_MAX
    if fits and lanes > 1 and right > 32:
        # What is below 2^32 cannot carry into a rounding constant that is a multiple of it.
        high = (product >> const(32, "int64", lanes)).astype(vector("int32", lanes))
        half = const(1 << (right - 33), "int32", lanes)
        return (high + half) >> const(right - 32, "int32", lanes), "int32"
    q = (product + const(1 << (right - 1), "int64", lanes)) >> const(right, "int64", lanes)
    return (q.astype(vector(wide_int(lanes), lanes)), wide_int(lanes)) if fits else (q, "int64")


def rescale(
    acc: Expr, lanes: int, multiplier: Expr, rounding: Expr, right: Expr
) -> tuple[Expr, str]:
    """(acc · multiplier + rounding) >> right, int64; the factor's parts are scalars in memory."""
    m, r, n = (broadcast(v.astype("int64"), lanes) for v in (multiplier, rounding, right))
    return (acc.astype(vector("int64", lanes)) * m + r) >> n, "int64"

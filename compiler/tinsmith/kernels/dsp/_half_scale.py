"""Requantising sums of 16 bits with SMLAWB and SSAT: y = ssat8((C + (sum·m >> 16)) >> n).

m is the real factor with up to 31 bits, so that it holds for every sum is nearly always true; it is
checked for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ...quant.arithmetic import requantize

_INT16 = 1 << 15
_ROOM = 1 << 30  # of C + (sum·m >> 16), so that nothing overflows
_TRIED = (0, 1, -1, 2, -2, 3, -3)  # steps of C


class HalfScale(NamedTuple):
    """n: 1 … 30. factors: (m, C) of each scale."""

    n: int
    factors: tuple[tuple[int, int], ...]


def half_scale(
    scales: Sequence[tuple[int, int]], bound: int, offset: int, zero_point: int
) -> HalfScale | None:
    """Of sums h in [-bound, bound], where acc = h + offset is what (multiplier, shift) scale.

    None: no such factors are known. Saturation to int8 is that of `saturate`.
    """
    if bound > _INT16:
        return None
    sums = np.arange(-bound, bound + 1, dtype=np.int64)
    for n in range(30, 0, -1):
        found = [_factors(m, s, n, sums, offset, zero_point) for m, s in scales]
        known = tuple(f for f in found if f is not None)
        if len(known) == len(scales):
            return HalfScale(n, known)
    return None


def _factors(
    multiplier: int, shift: int, n: int, sums: np.ndarray, offset: int, zero_point: int
) -> tuple[int, int] | None:
    real = multiplier * 2.0 ** (shift - 31)
    m, c = round(real * 2.0 ** (16 + n)), round((zero_point + 0.5 + offset * real) * 2.0**n)
    if m >= 1 << 31 or abs(c) + int(sums[-1]) * m // 65536 >= _ROOM:
        return None
    wanted = np.clip(requantize(sums + offset, multiplier, shift) + zero_point, -128, 127)
    for step in _TRIED:
        given = np.clip((c + step + (sums * m >> 16)) >> n, -128, 127)
        if (given == wanted).all():
            return m, c + step
    return None

"""Two sums in one register: an int32 product of a value and `low + 2^16·high` is two products.

The halves of a sum of `n` such products are read off where it cannot leave them, whatever the
values are: Σ v·w of each half within int16. With 2^15 added to the lower one, so that it never
borrows, `sum >> 16` is the upper half, and the total of the lower one is, modulo 2^32,
Σ sum − 2^16·Σ upper − 2^15 for each sum.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...ir.dtypes import Array

LOW_OFFSET = 1 << 15
_INT8_MIN, _INT8_MAX = -128, 127
_LEAST, _MOST = -(1 << 15), (1 << 15) - 1


def fits(weights: Array) -> Array:
    """[..., n] integers → [...] bool: whether Σ v·w is in int16 for all int8 values v."""
    return (_reach(weights, _INT8_MIN) >= _LEAST) & (_reach(weights, _INT8_MAX) <= _MOST)


def _reach(weights: Array, extreme: int) -> Array:
    """Of Σ v·w the least (extreme −128) or the largest (127)."""
    other = -1 - extreme
    up, down = np.maximum(weights, 0), np.minimum(weights, 0)
    return (extreme * up + other * down).sum(-1)


def without_excess(weights: Array, length: int) -> Array:
    """[O, K] filters with weights at 0 that make a run of `length` leave int16, the largest first.

    Runs begin at multiples of `length`; the last may be shorter.
    """
    kept = weights.astype(np.int64)
    for begin in range(0, kept.shape[1], length):
        run = kept[:, begin : begin + length]  # a view: what follows changes `kept`
        for row in np.flatnonzero(~fits(run)):
            while not fits(run[row]):
                run[row, np.abs(run[row]).argmax()] = 0
    return kept


def starts(bias: Array, low: Array, high: Array, runs: int) -> Array:
    """What the totals begin at, by channel: int32, modulo 2^32.

    low, high: channels that share a register, pairwise. The upper total begins at its bias, and
    the lower one at what `lower − 2^16·upper` has to begin at, less what `runs` offsets add.
    """
    found = bias.astype(np.int64).copy()
    found[low] += (found[high] << 16) - runs * LOW_OFFSET
    return found.astype(np.uint64).astype(np.uint32).view(np.int32)


def facts(length: int) -> dict[str, Any]:
    """What the templates call them."""
    return {"run": length, "low_offset": LOW_OFFSET}

"""One shift and one offset for all channels of a layer: y = ssat8((hi32(acc·m) + C) >> s).

Raising a channel's weights and bias by 2^k raises its accumulator, so acc·m >> n is
(acc·2^k)·m >> (n + k): with weights in 16 bits every channel can be brought to the same total
shift N. s = N − 32 is then an immediate and C a register of the whole layer. The form itself is
that of `kernels.packing`, exact for 33 ≤ N ≤ 54.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...ir.dtypes import Array
from ...ir.graph import Graph, Node
from ...quant.arithmetic import INT32_MAX, accumulator_bounds, requantize
from ..packing import MAX_SHIFT, MIN_SHIFT

INT16_MAX = 2**15 - 1
_PREFERRED_STEP = 4  # of N: layers whose shifts differ little come to share their code
_MAX_STEPS = 2048


@dataclass(frozen=True)
class Uniform:
    """weights: as the filter, int64 values in 16 bits. start: int32 [O] accumulator starts with the
    input's zero point folded in, modulo 2^32. multiplier: int32 [O]. offset, shift: C and s."""

    weights: Array
    start: Array
    multiplier: Array
    offset: int
    shift: int


def uniform(node: Node, graph: Graph) -> Uniform | None:
    """Of a lowered conv2d or dense node; None when no common shift is exact for all channels."""
    w, bias, multiplier, shift = (graph.constant(v).astype(np.int64) for v in node.inputs[1:5])
    low, high = accumulator_bounds(w, bias, -128, 127, node.x.zero_point)
    first, last = (requantize(v, multiplier, shift) for v in (low, high))
    constant = (first == last) | (multiplier == 0)
    n = np.where(constant, MIN_SHIFT, 31 - shift)
    axes = tuple(range(1, w.ndim))
    largest = np.where(constant, 1, np.maximum(np.abs(w).max(axes), 1))
    reach = np.where(constant, 1, np.maximum(np.maximum(np.abs(low), np.abs(high)), 1))
    room = np.minimum(_bits(INT16_MAX // largest), _bits(INT32_MAX // reach))
    for total in _totals(n):
        lowered = _lowered(total, n, multiplier, low, high)
        if lowered is None or bool((total - n > room)[~constant].any()):
            continue
        k = np.where(constant, 0, np.maximum(total - n, 0))
        scaled = np.where(constant.reshape(-1, *[1] * len(axes)), 0, w)
        scaled = scaled << k.reshape(-1, *[1] * len(axes))
        start = (bias << k) - node.x.zero_point * scaled.sum(axes)
        # A channel that takes one value v: v·2^(N−30) · 2^30 is v·2^N.
        value = np.clip(first + node.y.zero_point, -128, 127) - node.y.zero_point
        start = np.where(constant, value << max(0, total - 30), start)
        multiplier = np.where(constant, 1 << min(30, total), lowered)
        offset = (1 << (total - 33)) + (node.y.zero_point << (total - 32))
        return Uniform(scaled, wrap32(start), multiplier.astype(np.int32), offset, total - 32)
    return None


def wrap32(values: Array) -> Array:
    """int64 → int32 modulo 2^32."""
    return (values & 0xFFFFFFFF).astype(np.uint32).view(np.int32)


def _bits(values: Array) -> Array:
    """floor(log2) of positive integers."""
    return np.array([int(v).bit_length() - 1 for v in values])


def _totals(n: Array) -> Iterator[int]:
    """Values of N to try, the preferred one first."""
    highest = max(int(n.max()), MIN_SHIFT)
    preferred = highest + -highest % _PREFERRED_STEP
    yield from (t for t in (preferred, *range(highest, MIN_SHIFT - 1, -1)) if t <= MAX_SHIFT - 2)


def _lowered(total: int, n: Array, multiplier: Array, low: Array, high: Array) -> Array | None:
    """The multipliers with those of channels above `total` rounded down to it, if all of them still
    give every output at the same accumulators."""
    result = multiplier.copy()
    for c in np.flatnonzero(n > total):
        drop = int(n[c]) - total
        short = (int(multiplier[c]) + (1 << (drop - 1))) >> drop
        if not _same(int(multiplier[c]), int(n[c]), short, total, int(low[c]), int(high[c])):
            return None
        result[c] = short
    return result


def _same(m1: int, n1: int, m2: int, n2: int, low: int, high: int) -> bool:
    """Whether two positive multipliers give the same output for all accumulators in [low, high]:
    both rise in steps, so it is enough that they rise at the same places."""
    steps = _steps(m1, n1, low, high)
    return m2 > 0 and steps is not None and steps == _steps(m2, n2, low, high)


def _steps(m: int, n: int, low: int, high: int) -> tuple[int, tuple[int, ...]] | None:
    """The output at `low`, and the first accumulator of each further output up to `high`; None
    where these are too many to look at."""
    half = 1 << (n - 1)
    first, last = (low * m + half) >> n, (high * m + half) >> n
    if last - first > _MAX_STEPS:
        return None
    return first, tuple(-((half - (v << n)) // m) for v in range(first + 1, last + 1))

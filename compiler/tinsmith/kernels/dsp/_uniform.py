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


@dataclass(frozen=True)
class CommonShift:
    """Channel c, its accumulator raised by `raise_by[c]` more bits, is requantised with
    `multiplier[c]` and the one shift n = `total`, `move[c]` having been added to it before. Where
    `constant`, the result is the same for all accumulators: that of weights 0 and the raised start
    `value`. All arrays int64 [O]."""

    total: int
    raise_by: Array
    multiplier: Array
    move: Array
    constant: Array
    value: Array

    def offset(self, zero_point: int) -> int:
        return (1 << (self.total - 33)) + (zero_point << (self.total - 32))


def uniform(node: Node, graph: Graph) -> Uniform | None:
    """Of a lowered conv2d or dense node; None when no common shift is exact for all channels."""
    w, bias = (graph.constant(v).astype(np.int64) for v in node.inputs[1:3])
    axes = tuple(range(1, w.ndim))
    room = _bits(INT16_MAX // np.maximum(np.abs(w).max(axes), 1))
    shift = common_shift(node, graph, room=room, movable=True)
    if shift is None:
        return None
    scaled = np.where(shift.constant.reshape(-1, *[1] * len(axes)), 0, w)
    scaled = scaled << shift.raise_by.reshape(-1, *[1] * len(axes))
    start = ((bias + shift.move) << shift.raise_by) - node.x.zero_point * scaled.sum(axes)
    return Uniform(
        scaled,
        wrap32(np.where(shift.constant, shift.value, start)),
        shift.multiplier.astype(np.int32),
        shift.offset(node.y.zero_point),
        shift.total - 32,
    )


def common_shift(
    node: Node,
    graph: Graph,
    *,
    room: Array | None = None,
    raised: int = 0,
    lowest: int = MIN_SHIFT,
    movable: bool = False,
) -> CommonShift | None:
    """Of a lowered conv2d or dense node; None when none is exact for all channels.

    room: int64 [O], how many bits a channel may be raised beside what int32 allows. raised: bits
    that all accumulators have been raised by already. lowest: the smallest total. movable: whether
    a channel may need a move other than 0.
    """
    w, bias, multiplier, shift = (graph.constant(v).astype(np.int64) for v in node.inputs[1:5])
    low, high = accumulator_bounds(w, bias, -128, 127, node.x.zero_point)
    first, last = (requantize(v, multiplier, shift) for v in (low, high))
    constant = (first == last) | (multiplier == 0)
    n = np.where(constant, lowest, 31 - shift + raised)
    reach = np.where(constant, 1, np.maximum(np.maximum(np.abs(low), np.abs(high)), 1)) << raised
    if int(reach.max()) > INT32_MAX:
        return None
    most = _bits(INT32_MAX // reach)
    if room is not None:
        most = np.minimum(most, room)
    for total in _totals(n, lowest):
        lowered = _lowered(total - raised, n - raised, multiplier, low, high)
        if lowered is None or bool((total - n > most)[~constant].any()):
            continue
        short, move = lowered
        if move.any() and not movable:
            continue
        # A channel that takes one value v: v·2^(N−30) · 2^30 is v·2^N.
        value = np.clip(first + node.y.zero_point, -128, 127) - node.y.zero_point
        return CommonShift(
            total,
            np.where(constant, 0, np.maximum(total - n, 0)),
            np.where(constant, 1 << min(30, total), short),
            move,
            constant,
            value << max(0, total - 30),
        )
    return None


def wrap32(values: Array) -> Array:
    """int64 → int32 modulo 2^32."""
    return (values & 0xFFFFFFFF).astype(np.uint32).view(np.int32)


def _bits(values: Array) -> Array:
    """floor(log2) of positive integers."""
    return np.array([int(v).bit_length() - 1 for v in values])


def _totals(n: Array, lowest: int) -> Iterator[int]:
    """Values of N to try, the preferred one first."""
    highest = max(int(n.max()), lowest)
    preferred = highest + -highest % _PREFERRED_STEP
    yield from (t for t in (preferred, *range(highest, lowest - 1, -1)) if t <= MAX_SHIFT - 2)


def _lowered(
    total: int, n: Array, multiplier: Array, low: Array, high: Array
) -> tuple[Array, Array] | None:
    """The multipliers with those of channels above `total` rounded down to it, and what to add to
    accumulators so that all of them still give every output at the same ones."""
    result, moves = multiplier.copy(), np.zeros_like(multiplier)
    for c in np.flatnonzero(n > total):
        drop = int(n[c]) - total
        short = (int(multiplier[c]) + (1 << (drop - 1))) >> drop
        move = _move(int(multiplier[c]), int(n[c]), short, total, int(low[c]), int(high[c]))
        if move is None:
            return None
        result[c], moves[c] = short, move
    return result, moves


def _move(m1: int, n1: int, m2: int, n2: int, low: int, high: int) -> int | None:
    """What to add to the accumulators in [low, high] so that the second of two positive multipliers
    gives the outputs of the first; None if nothing does. Both rise in steps, so it is enough that
    they rise at the same places."""
    steps = _steps(m1, n1, low, high)
    if m2 <= 0 or steps is None:
        return None
    first, places = steps
    move = _rise(m2, n2, first + 1) - places[0] if places else 0
    if max(abs(low + move), abs(high + move)) > INT32_MAX:
        return None
    moved = first, tuple(place + move for place in places)
    return move if _steps(m2, n2, low + move, high + move) == moved else None


def _steps(m: int, n: int, low: int, high: int) -> tuple[int, tuple[int, ...]] | None:
    """The output at `low`, and the first accumulator of each further output up to `high`; None
    where these are too many to look at."""
    half = 1 << (n - 1)
    first, last = (low * m + half) >> n, (high * m + half) >> n
    if last - first > _MAX_STEPS:
        return None
    return first, tuple(_rise(m, n, v) for v in range(first + 1, last + 1))


def _rise(m: int, n: int, output: int) -> int:
    """The first accumulator of an output."""
    return -(((1 << (n - 1)) - (output << n)) // m)

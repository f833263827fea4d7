"""One shift and one offset for all channels of a layer: y = ssat8((hi32(2·acc·m) + C) >> n).

VQDMLASH multiplies, takes the upper half and adds C, which holds the zero point; two narrowing
shifts round. A channel of a finer scale than the layer's n gets a shorter multiplier: any that
gives every output at the same accumulators within the proven bounds. Both sides rise in steps, so
what has to hold at the steps bounds the multiplier from below and from above.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...ir.dtypes import Array
from ...ir.graph import Graph, Node
from ...quant.arithmetic import INT32_MAX, accumulator_bounds

_PREFERRED_STEP = 4  # of n: layers whose shifts differ little come to share their code
_MAX_TOTAL, _MAX_SECOND = 20, 8
_FIT = 53  # of a channel's shift: 255 outputs that far up fit int64
_FAR = 2**40  # beyond every accumulator
_MOVES = (0, *(sign * d for d in (1, 2, 3, 4, 6, 8, 12, 16) for sign in (1, -1)))  # of a bias


@dataclass(frozen=True)
class Uniform:
    """multiplier: int32 [O]; move: int64 [O], to add to each bias. offset: C. The shift n is
    `first`, of 32 bits to 16 (0: none), and `second`, of 16 to 8."""

    multiplier: Array
    move: Array
    offset: int
    first: int
    second: int


def uniform(node: Node, graph: Graph) -> Uniform | None:
    """Of a lowered conv2d or dense node; None when no common shift is found."""
    w, bias, multiplier, shift = (graph.constant(v).astype(np.int64) for v in node.inputs[1:5])
    low, high = accumulator_bounds(w, bias, -128, 127, node.x.zero_point)
    room = INT32_MAX - np.maximum(np.abs(low), np.abs(high))
    outputs = np.arange(node.attrs.q_clamp[0] + 1, node.attrs.q_clamp[1] + 1) - node.y.zero_point
    layer = _Steps.of(low, high, multiplier, 31 - shift, outputs)
    s = -shift[multiplier > 0]
    for total in _totals(min(int(s.min(initial=_MAX_TOTAL)), _MAX_TOTAL)):
        found = _solve(layer, total, multiplier >> np.clip(-shift - total, 0, 31), room)
        if found is not None:
            m, move = found
            first = max(0, total - _MAX_SECOND)
            offset = (node.y.zero_point << total) - ((1 << first) >> 1)
            return Uniform(m.astype(np.int32), move, offset, first, total - first)
    return None


@dataclass(frozen=True)
class _Steps:
    """Where outputs rise, [O, K]: at the accumulator `reached` (where `is_reached`) the output is
    at least outputs[k], at `below` (where `is_below`) it is less."""

    outputs: Array
    reached: Array
    is_reached: Array
    below: Array
    is_below: Array

    @classmethod
    def of(cls, low: Array, high: Array, multiplier: Array, n: Array, outputs: Array) -> _Steps:
        steps = np.stack(
            [_steps(int(m), int(k), outputs) for m, k in zip(multiplier, n, strict=True)]
        )
        low, high = low[:, None], high[:, None]
        return cls(
            outputs,
            np.maximum(steps, low),
            steps <= high,
            np.minimum(steps - 1, high),
            steps > low,
        )

    def at(self, rows: Array) -> _Steps:
        parts = (self.reached, self.is_reached, self.below, self.is_below)
        return _Steps(self.outputs, *(p[rows] for p in parts))


def _steps(m: int, n: int, outputs: Array) -> Array:
    """int64 [K]: the least accumulator with (acc·m + half) >> n ≥ outputs[k]."""
    if m == 0:
        return np.where(outputs > 0, _FAR, -_FAR)
    if n <= _FIT:
        return -((-((outputs << n) - (np.int64(1) << (n - 1)))) // m)
    exact = (-((-((int(v) << n) - (1 << (n - 1)))) // m) for v in outputs)
    return np.array([min(max(step, -_FAR), _FAR) for step in exact])


def _totals(highest: int) -> Iterator[int]:
    """Values of n to try, the preferred one first. A channel of a coarse scale that has few values
    may take more than its own."""
    preferred = highest - highest % _PREFERRED_STEP
    yield from (t for t in (preferred, _PREFERRED_STEP, *range(highest, 0, -1)) if t > 0)


def _solve(layer: _Steps, total: int, near: Array, room: Array) -> tuple[Array, Array] | None:
    """(multiplier, move) per channel: the multiplier nearest to `near`, with the bias moved if it
    has to be. room: by how much accumulators may grow."""
    multiplier, move = near.copy(), np.zeros_like(near)
    open_ = np.arange(len(near))
    for d in _MOVES:
        lowest, highest = _range(layer.at(open_), total, d)
        solved = (lowest <= highest) & (room[open_] >= abs(d))
        rows = open_[solved]
        multiplier[rows] = np.clip(near[rows], lowest[solved], highest[solved])
        move[rows] = d
        open_ = open_[~solved]
        if not len(open_):
            return multiplier, move
    return None


def _range(layer: _Steps, total: int, moved: int) -> tuple[Array, Array]:
    """int64 [O] bounds of the multipliers that are right at every step; the first above the second
    where there is none."""
    least = ((layer.outputs << total) - (1 << (total - 1))) << 31
    lower_a, upper_a = _bounds(layer.reached + moved, least, layer.is_reached)
    # acc·m ≤ least − 1 is −acc·m ≥ 1 − least
    lower_b, upper_b = _bounds(-(layer.below + moved), 1 - least, layer.is_below)
    return np.maximum(lower_a, lower_b), np.minimum(upper_a, upper_b)


def _bounds(acc: Array, least: Array, counts: Array) -> tuple[Array, Array]:
    """Of m, so that acc·m ≥ least wherever it counts."""
    divisor = np.where(acc == 0, 1, acc)
    quotient = least // divisor
    lower = np.where(acc > 0, -((-least) // divisor), 0)
    upper = np.where(acc < 0, quotient, INT32_MAX)
    never = (acc == 0) & (least > 0)
    lower = np.where(counts, np.where(never, INT32_MAX + 1, lower), 0)
    upper = np.where(counts, upper, INT32_MAX)
    return lower.max(1, initial=0), upper.min(1, initial=INT32_MAX)

"""y[pixel, o] = Σ over taps and channels of x · w, in tiles that stay in registers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ._emit import Expr, Register, bind, broadcast, const, loop
from ._strips import Strip
from ._taps import Windows

_PARTIAL_SUMS = 8  # accumulators that keep the multipliers busy
_LEAST_STEPS = 4  # of a loop over channels that is worth splitting


@dataclass(frozen=True)
class Contraction:
    """What a tile computes.

    x(pixel, tap_y, tap_x, channel): the scalar at a tap of pixel number `pixel` of the tile.
    w(tap_y, tap_x, channel, vector): a vector of weights. start(vector): what a sum starts at.
    finish(pixel, vector, sum): stores. lanes: of each vector.
    """

    dtype: str
    lanes: Sequence[int]
    channels: int
    x: Callable[[int, Expr, int, Expr], Expr]
    w: Callable[[Expr, int, Expr, int], Expr]
    start: Callable[[int], Expr]
    finish: Callable[[int, int, Register], None]


def tile(c: Contraction, strip: Strip, down: Windows, oy: Expr) -> None:
    """One tile: `strip.pixels` pixels by the vectors of `c`."""
    pixels, vectors = strip.pixels, len(c.lanes)
    sets = _sets(pixels * vectors, c.channels)
    sums = [
        [[Register.new(c.dtype, lanes) for lanes in c.lanes] for _ in range(pixels)]
        for _ in range(sets)
    ]
    for part in range(sets):
        for p in range(pixels):
            for v in range(vectors):
                zero = const(0, c.dtype, c.lanes[v])
                sums[part][p][v].set(zero if part else c.start(v))
    taps = range(min(low for low, _ in strip.taps), max(high for _, high in strip.taps))
    with down.each_tap(oy) as ky:
        for kx in taps:
            live = [p for p, (low, high) in enumerate(strip.taps) if low <= kx < high]
            if live:
                _channels(c, sums, live, ky, kx)
    for p in range(pixels):
        for v in range(vectors):
            for part in range(1, sets):
                sums[0][p][v].set(sums[0][p][v].value + sums[part][p][v].value)
            c.finish(p, v, sums[0][p][v])


def _channels(
    c: Contraction, sums: Sequence[Sequence[Sequence[Register]]], live: list[int], ky: Expr, kx: int
) -> None:
    """All channels of one tap; sum number i takes every `sets`-th channel from i on."""
    sets = len(sums)

    def step(part: int, channel: Expr) -> None:
        weights = [bind(c.w(ky, kx, channel, v)) for v in range(len(c.lanes))]
        for p in live:
            value = bind(c.x(p, ky, kx, channel))
            for v, lanes in enumerate(c.lanes):
                acc = sums[part][p][v]
                acc.set(broadcast(value, lanes) * weights[v] + acc.value)

    whole = c.channels // sets
    with loop(whole) as i:
        for part in range(sets):
            step(part, i * sets + part)
    for channel in range(whole * sets, c.channels):
        step(0, channel)


def _sets(accumulators: int, channels: int) -> int:
    """How many partial sums each accumulator is split into."""
    sets = 1
    while accumulators * sets * 2 <= _PARTIAL_SUMS and channels >= sets * 2 * _LEAST_STEPS:
        sets *= 2
    return sets

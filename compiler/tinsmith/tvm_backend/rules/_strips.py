"""Tiles of a contraction in registers, `pixels` × `vectors`, and how to choose them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ._emit import tails
from ._taps import Windows

_FMA_PER_CYCLE = 2
_LOADS_PER_CYCLE = 2
_LATENCY = 4  # cycles until an accumulator can be added to again
_MOST_VECTORS = 8


@dataclass(frozen=True)
class Shape:
    """pixels × vectors accumulators."""

    pixels: int
    vectors: int


@dataclass(frozen=True)
class Block:
    """`count` blocks of `vectors` vectors each, the first one at vector `first`."""

    first: int
    count: int
    vectors: int


@dataclass(frozen=True)
class Strip:
    """`count` tiles of neighbouring outputs; taps[p] are the taps of pixel p inside the input."""

    first: int
    count: int
    taps: tuple[tuple[int, int], ...]

    @property
    def pixels(self) -> int:
        return len(self.taps)


def choose(pixels: int, vectors: int, registers: int) -> Shape:
    """The tile that needs the fewest cycles for a step of the contraction over all of them."""
    return Shape(*ranked_tiles(pixels, vectors, registers)[0])


def ranked_tiles(pixels: int, vectors: int, registers: int) -> list[tuple[int, int]]:
    """(pixels, vectors) of a tile, by the cycles of a step over all of them, fewest first.

    Beside the accumulators a tile needs a register per vector and one for the broadcast value.
    """
    costs: dict[tuple[int, int], float] = {}
    for v in range(1, min(vectors, _MOST_VECTORS) + 1):
        for p in range(1, min(pixels, (registers - 1 - v) // v) + 1):
            full, rest = divmod(pixels, p)
            across = full * _cycles(p, v) + (_cycles(rest, v) if rest else 0)
            blocks, left = divmod(vectors, v)
            down = blocks * across
            if left:
                down += full * _cycles(p, left) + (_cycles(rest, left) if rest else 0)
            costs[p, v] = down
    return sorted(costs, key=costs.__getitem__)


def _cycles(pixels: int, vectors: int) -> float:
    return max(pixels * vectors / _FMA_PER_CYCLE, (pixels + vectors) / _LOADS_PER_CYCLE, _LATENCY)


def blocks(vectors: int, width: int) -> list[Block]:
    """`vectors` in blocks of `width`, and one of what is left."""
    count, left = divmod(vectors, width)
    found = [Block(0, count, width)] if count else []
    return found + ([Block(count * width, 1, left)] if left else [])


def column_blocks(
    columns: int, lanes: int, vectors: int
) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    """(first column, number of equal blocks, width of each vector): whole ones, then the rest."""
    whole = columns // lanes
    for block in blocks(whole, vectors) if whole else ():
        yield block.first * lanes, block.count, (lanes,) * block.vectors
    rest = tuple(width for _, width in tails(whole * lanes, columns, lanes))
    if rest:
        yield whole * lanes, 1, rest


def strips(across: Windows, pixels: int) -> list[Strip]:
    """All outputs of a row in tiles of `pixels`; equal neighbours are one strip."""
    found: list[Strip] = []
    for first in range(0, across.out, pixels):
        inside = range(first, min(first + pixels, across.out))
        taps = tuple(across.taps(output) for output in inside)
        last = found[-1] if found else None
        if last and last.taps == taps:
            found[-1] = Strip(last.first, last.count + 1, taps)
        else:
            found.append(Strip(first, 1, taps))
    return found

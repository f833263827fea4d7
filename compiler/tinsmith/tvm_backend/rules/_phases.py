"""The input positions of a strided convolution, grouped by the taps that reach them.

Position start + stride · j of the input is met by the output j + offset through each of the
phase's taps. (`kernels/portable/input_gradient.py` finds the phases.)
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from ...kernels.portable.input_gradient import Phase
from ..import_tvm import T
from ._emit import Expr


@dataclass(frozen=True)
class Tile:
    """`count` tiles of neighbouring positions of a phase, from number `first` on.

    taps[p]: the (tap, offset) pairs of position p whose output exists.
    """

    first: int
    count: int
    taps: tuple[tuple[tuple[int, int], ...], ...]

    @property
    def positions(self) -> int:
        return len(self.taps)


def tiles(phase: Phase, out: int, size: int) -> list[Tile]:
    """All positions in tiles of `size`; out: length of the output's axis."""
    found: list[Tile] = []
    for first in range(0, phase.positions, size):
        inside = range(first, min(first + size, phase.positions))
        taps = tuple(tuple((t, at) for t, at in phase.taps if 0 <= j + at < out) for j in inside)
        last = found[-1] if found else None
        if last and last.taps == taps:
            found[-1] = Tile(last.first, last.count + 1, taps)
        else:
            found.append(Tile(first, 1, taps))
    return found


@contextmanager
def where_inside(index: Expr, phase: Phase, offset: int, out: int) -> Generator[None]:
    """What is emitted inside runs where output `index` + `offset` exists."""
    if offset >= 0 and phase.positions - 1 + offset < out:
        yield
        return
    at = index + offset
    if isinstance(at, int):
        at = T.int32(at)
    with T.If(T.And(at >= 0, at < out)), T.Then():
        yield

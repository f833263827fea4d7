"""The lower bound: what no plan of a schedule can go below, legal overlaps counted.

At one step the live buffers are pairwise disjoint, except that the output Y of the step's node may
overlap inputs that die there. With lead D an output of y bytes at O and an input of x bytes at I
share bytes only when O ≤ I − D, hence at most min(y − D, x) of them, and Y shares at most y in all,
for the inputs are disjoint. So the step needs at least

    Σ bytes − min(y, Σ over inputs of max(0, min(y − max(D, 0), x)))

Counting in units of the alignment, rounded up, is sharper and still valid: buffers that are
disjoint and start at multiples of the alignment share no unit. Only the unit at the top may be
partly unused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .model import Buffer


def shared_bytes(output_bytes: int, inputs: Sequence[tuple[int, int]]) -> int:
    """The most bytes that an output can share with its dying inputs, given as (bytes, lead)."""
    each = (max(0, min(output_bytes - max(lead, 0), size)) for size, lead in inputs)
    return min(output_bytes, sum(each))


def step_bounds(
    buffers: Sequence[Buffer],
    overlaps: Mapping[tuple[int, int], int],
    steps: int,
    alignment: int,
) -> tuple[int, ...]:
    """Bytes that each of the steps −1 … `steps` needs at least; index 0 is step −1."""
    dying: dict[int, list[tuple[int, int]]] = {}
    for (output, source), lead in overlaps.items():
        dying.setdefault(output, []).append((source, lead))
    bounds: list[int] = []
    for step in range(-1, steps + 1):
        live = [i for i, b in enumerate(buffers) if b.live_at(step) and b.bytes]
        needed = sum(_units(buffers[i].bytes, alignment) for i in live)
        for i in live:
            if buffers[i].first == step and i in dying:
                sources = [
                    (_units(buffers[s].bytes, alignment), _units(lead, alignment))
                    for s, lead in dying[i]
                ]
                needed -= shared_bytes(_units(buffers[i].bytes, alignment), sources)
        tops = [(buffers[i].bytes - 1) % alignment + 1 for i in live]
        bounds.append((needed - 1) * alignment + min(tops) if needed else 0)
    return tuple(bounds)


def _units(size: int, alignment: int) -> int:
    return -(-size // alignment)

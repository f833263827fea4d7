"""The lower bound: what no plan of a schedule can go below, legal overlaps counted.

Of one step. The live buffers are pairwise disjoint, except that the output Y of the step's node may
overlap inputs that die there. With lead D an output of y bytes at O and an input of x bytes at I
share bytes only when O ≤ I − D, hence at most min(y − D, x) of them, and Y shares at most y in all,
for the inputs are disjoint. So the step needs at least

    Σ bytes − min(y, Σ over inputs of max(0, min(y − max(D, 0), x)))

Scratch that may overlap a dying input counts as one more output, disjoint from the others: all of
them together share at most the bytes of the inputs.

Of a chain of steps, each output going over the input of its node. If no pair of the chain is
disjoint, every output lies a lead below its input, so the first buffer lies above all the leads
together; otherwise some step needs its bytes without that pair's share. The smaller counts.

Counting in units of the alignment, rounded up, is sharper and still valid: buffers that are
disjoint and start at multiples of the alignment share no unit. Only the top one may be partly used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .model import Buffer


@dataclass(frozen=True)
class Bounds:
    """steps: bytes that each of the steps −1 … n needs at least, index 0 being step −1.

    chain: bytes that some chain of overlaps needs at least.
    """

    steps: tuple[int, ...]
    chain: int

    @property
    def arena(self) -> int:
        return max(*self.steps, self.chain)

    @property
    def peak_step(self) -> int:
        return self.steps.index(max(self.steps)) - 1


def shared_bytes(output_bytes: int, inputs: Sequence[tuple[int, int]]) -> int:
    """The most bytes that an output can share with its dying inputs, given as (bytes, lead)."""
    each = (max(0, min(output_bytes - max(lead, 0), size)) for size, lead in inputs)
    return min(output_bytes, sum(each))


def lower_bounds(
    buffers: Sequence[Buffer],
    overlaps: Mapping[tuple[int, int], int],
    steps: int,
    alignment: int,
) -> Bounds:
    """overlaps: (output or scratch buffer, input buffer) → lead, from `legal_overlaps`. steps: of
    nodes."""
    count = _Count(buffers, overlaps, alignment)
    each = tuple(count.needed(step) for step in range(-1, steps + 1))
    return Bounds(each, max((count.chain(start) for start in count.next), default=0))


class _Count:
    def __init__(
        self, buffers: Sequence[Buffer], overlaps: Mapping[tuple[int, int], int], alignment: int
    ) -> None:
        self.buffers = buffers
        self.alignment = alignment
        # Of a part, whose host is aligned, those that begin in it: parts side by side share one.
        self.units = [-(-(b.start + b.bytes) // alignment) + -b.start // alignment for b in buffers]
        self.tops = [(b.start + b.bytes - 1) % alignment + 1 for b in buffers]
        self.live: dict[int, list[int]] = {}  # step → buffers
        for i, b in enumerate(buffers):
            for step in range(b.first, b.last + 1) if b.bytes else ():
                self.live.setdefault(step, []).append(i)
        self.apart: dict[int, int] = {}  # buffer → bytes of its last step, disjoint from the output
        self.next: dict[int, tuple[int, int]] = {}  # input → (output, lead in units)
        self.dying: dict[int, list[tuple[int, int]]] = {}  # output or scratch → inputs, leads
        for (writer, source), lead in overlaps.items():
            units = -(-lead // alignment)
            self.dying.setdefault(writer, []).append((source, units))
            if not buffers[writer].is_scratch:
                self.next[source] = (writer, units)

    def needed(self, step: int, apart: int | None = None) -> int:
        """Bytes of one step; buffer `apart` is taken to be disjoint from its node's output."""
        live = self.live.get(step, [])
        shared = 0
        sources: set[int] = set()
        for i in live:
            if self.buffers[i].first == step:
                over = self.dying.get(i, ())
                if not self.buffers[i].is_scratch:
                    over = [(s, lead) for s, lead in over if s != apart]
                shared += shared_bytes(self.units[i], [(self.units[s], lead) for s, lead in over])
                sources.update(s for s, _ in over)
        units = sum(self.units[i] for i in live) - min(shared, sum(self.units[s] for s in sources))
        top = min((self.tops[i] for i in live), default=0)
        return (units - 1) * self.alignment + top if units else 0

    def chain(self, start: int) -> int:
        """Bytes of the best chain that begins with the buffer `start`."""
        best = leads = 0
        apart: int | None = None
        source = start
        while source in self.next:
            output, lead = self.next[source]
            if source not in self.apart:
                self.apart[source] = self.needed(self.buffers[source].last, apart=source)
            disjoint = self.apart[source]
            apart = disjoint if apart is None else min(apart, disjoint)
            leads += lead
            best = max(best, min(apart, leads * self.alignment + self.buffers[start].bytes))
            source = output
        return best

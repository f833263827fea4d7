"""Placement as differences: for two clusters of buffers, which differences of offsets are
forbidden.

Two buffers that meet in time must not share bytes, unless one is the output of a node and the other
an input that dies there: then the output may also start `lead` bytes or more below the input. Both
rules are intervals of forbidden differences (one, or two around the difference 0 where an output
may only take its input's place), so heuristics and the exact solver need to know nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..kernels.kernel import InPlaceOnly
from .model import Buffer


class Forbidden(NamedTuple):
    """`low < offset − offset of cluster `other` < high` is forbidden. Bytes."""

    other: int
    low: int
    high: int


@dataclass(frozen=True)
class Problem:
    """Clusters to place at multiples of `alignment`.

    A cluster is a buffer with the buffers laid out inside it; most are a single buffer.

    Attributes:
        bytes: size per cluster.
        forbidden: per cluster, each pair of clusters being listed at both.
        cluster: index of its cluster, per buffer.
        start: bytes from the start of its cluster, per buffer.
        spans: the first and the last step at which a cluster is live.
    """

    bytes: tuple[int, ...]
    forbidden: tuple[tuple[Forbidden, ...], ...]
    cluster: tuple[int, ...]
    start: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    alignment: int

    @property
    def lifetime(self) -> tuple[int, ...]:
        """Number of steps that a cluster is live."""
        return tuple(last - first + 1 for first, last in self.spans)

    def during(self, first: int, last: int) -> tuple[Problem, tuple[int, ...]]:
        """The clusters that are live at some of these steps alone, and which they are. No plan of
        all of them is smaller than the best one of these."""
        held = [i for i, (a, b) in enumerate(self.spans) if a <= last and b >= first]
        number = {c: k for k, c in enumerate(held)}
        part = Problem(
            tuple(self.bytes[c] for c in held),
            tuple(
                tuple(
                    rule._replace(other=number[rule.other])
                    for rule in self.forbidden[c]
                    if rule.other in number
                )
                for c in held
            ),
            tuple(range(len(held))),
            (0,) * len(held),
            tuple(self.spans[c] for c in held),
            self.alignment,
        )
        return part, tuple(held)


def build_problem(
    buffers: Sequence[Buffer], overlaps: Mapping[tuple[int, int], int], alignment: int
) -> Problem:
    """overlaps: (output buffer, input buffer) → lead, from `legal_overlaps`."""
    by_name = {b.name: i for i, b in enumerate(buffers) if not b.is_scratch}
    hosts: list[int] = []
    starts: list[int] = []
    for i in range(len(buffers)):
        host, start = i, 0
        while (parent := buffers[host].host) is not None:
            host, start = by_name[parent], start + buffers[host].start
        hosts.append(host)
        starts.append(start)
    roots = sorted(set(hosts))
    number = {root: k for k, root in enumerate(roots)}
    cluster = [number[h] for h in hosts]
    forbidden: list[set[Forbidden]] = [set() for _ in roots]
    for i, a in enumerate(buffers):
        for j in range(i):
            b = buffers[j]
            if cluster[i] == cluster[j] or not a.meets(b):
                continue
            low, high = -a.bytes, b.bytes
            if isinstance(overlaps.get((i, j), overlaps.get((j, i))), InPlaceOnly):
                ranges = [(low, 0), (0, high)]
            elif (i, j) in overlaps:
                ranges = [(max(low, -overlaps[i, j]), high)]
            elif (j, i) in overlaps:
                ranges = [(low, min(high, overlaps[j, i]))]
            else:
                ranges = [(low, high)]
            shift = starts[j] - starts[i]
            for low, high in ranges:
                if low + 1 < high:
                    rule = Forbidden(cluster[j], low + shift, high + shift)
                    forbidden[cluster[i]].add(rule)
                    forbidden[cluster[j]].add(Forbidden(cluster[i], -rule.high, -rule.low))
    members: list[list[Buffer]] = [[] for _ in roots]
    for b, c in zip(buffers, cluster, strict=True):
        members[c].append(b)
    return Problem(
        tuple(buffers[r].bytes for r in roots),
        tuple(tuple(sorted(f, key=lambda x: (x.other, x.low, x.high))) for f in forbidden),
        tuple(cluster),
        tuple(starts),
        tuple((min(b.first for b in m), max(b.last for b in m)) for m in members),
        alignment,
    )

"""The data of a memory plan: buffers with live ranges, and where each one lies in the arena."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..ir.graph import Value


@dataclass(frozen=True)
class Buffer:
    """Consecutive bytes that some values share, live from step `first` to step `last`, both
    included.

    A step is an index into the graph's nodes; −1 is the time before the first node, when the caller
    writes the graph inputs, and the number of nodes the time after the last, when it reads the
    outputs.

    Attributes:
        name: of the value that defines the bytes, or of the node that uses the scratch.
        values: that value, then its views. Empty for scratch, and for rows of a host.
        starts: of each value, bytes from the start of the buffer; empty: all are 0.
        origin: the ONNX node that writes the bytes; empty for a graph input.
        host: the buffer that this one is a part of: of a concatenation laid out in place, before
            that begins; or of a value whose slices are read in place, after the first of them.
        start: bytes from the start of `host`.
    """

    name: str
    bytes: int
    first: int
    last: int
    values: tuple[Value, ...] = ()
    origin: str = ""
    is_input: bool = False
    is_output: bool = False
    is_scratch: bool = False
    host: str | None = None
    start: int = 0
    starts: tuple[int, ...] = ()

    @property
    def placed_values(self) -> Iterator[tuple[Value, int]]:
        """Every value and its start."""
        return zip(self.values, self.starts or (0,) * len(self.values), strict=True)

    def live_at(self, step: int) -> bool:
        return self.first <= step <= self.last

    def meets(self, other: Buffer) -> bool:
        """Whether there is a step at which both are live."""
        return self.first <= other.last and other.first <= self.last

    def __str__(self) -> str:
        return f"{self.name} (scratch)" if self.is_scratch else self.name


@dataclass(frozen=True)
class Placed:
    """A buffer and its offset in the arena, in bytes."""

    buffer: Buffer
    offset: int

    @property
    def end(self) -> int:
        return self.offset + self.buffer.bytes


@dataclass(frozen=True)
class MemoryPlan:
    """Where everything lies in the arena. Offsets are bytes from its start, multiples of
    `alignment`.

    Attributes:
        offsets: of every graph input and node output; initializers are not in the arena.
        scratch: offset of the scratch by node name, for the nodes that have any.
        lower_bound_bytes: no plan of this schedule is smaller (see `plan/bounds.py`).
        bound_counts: what the lower bound counts, in words.
        strategy: how the layers run, in words: one by one, or some in stripes of rows.
        order: node names, in the order of the schedule.
        proved_optimal: no plan of this schedule needs fewer bytes.
        peak_node, peak_origin: name of the node at which the most bytes are live, and the ONNX
            node it came from; empty without nodes.
        in_place: names of nodes that need no code, their outputs being where they belong already:
            views, concatenations whose inputs were laid out inside the output, and slices that are
            read where they lie.
        placed: the same as rectangles, for checks of size and for pictures.
    """

    offsets: Mapping[Value, int]
    scratch: Mapping[str, int]
    arena_bytes: int
    lower_bound_bytes: int
    alignment: int
    order: tuple[str, ...]
    proved_optimal: bool
    peak_node: str
    peak_origin: str = ""
    in_place: frozenset[str] = frozenset()
    placed: tuple[Placed, ...] = ()
    bound_counts: str = ""
    strategy: str = "layer by layer"

    @property
    def gap(self) -> float:
        """How far above the lower bound, as a fraction of it."""
        return self.arena_bytes / self.lower_bound_bytes - 1.0 if self.lower_bound_bytes else 0.0

    def live_at(self, step: int) -> tuple[Placed, ...]:
        """What is live at a step, from the lowest offset up."""
        live = (p for p in self.placed if p.buffer.live_at(step))
        return tuple(sorted(live, key=lambda p: (p.offset, p.buffer.name)))

    def summary(self) -> str:
        """One line: the arena and how good it is."""
        quality = "proved optimal"
        if not self.proved_optimal:
            quality = f"at most {self.gap:.1%} above the smallest possible"
        return f"arena {self.arena_bytes:,} B, {quality}; peak at {short_name(self.peak_node, 48)}"


def bound_line(strategy: str, counts: str, gap: float) -> str:
    """One line: how the layers run, and how good the arena is proved to be."""
    proof = "proved optimal" if gap <= 0 else f"at most {gap:.1%} above the smallest possible"
    return f"{strategy}; {proof}: the lower bound counts {counts}"


def short_name(name: str, width: int) -> str:
    """The name in at most `width` (≥ 8) characters, cut in the middle; of fused nodes the first."""
    first = name.partition(";")[0]
    tail = (width - 1) * 2 // 3
    return first if len(first) <= width else f"{first[: width - 1 - tail]}…{first[-tail:]}"

"""The independent check of a memory plan, run in every compile. It shares no code with the planner.

It knows nothing of live ranges: it plays the schedule on a picture of the arena in which every byte
carries the name of the content that was last written there. A reader that does not find all of its
input's bytes proves the plan wrong, and so does an overlap that the kernel does not allow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..ir.graph import Graph, Node, Value
from ..kernels.kernel import InPlaceOnly, KernelCall
from .check_state import StateCheck, label, wrong
from .model import MemoryPlan

_CALLER = "the caller"


@dataclass(frozen=True)
class _Piece:
    """`bytes` bytes that hold `content` from its byte `skip` on."""

    content: str
    skip: int
    bytes: int


@dataclass(frozen=True)
class _Paint:
    start: int
    end: int
    content: str
    skip: int
    writer: str


def check_plan(graph: Graph, calls: Sequence[KernelCall], plan: MemoryPlan) -> None:
    """Raise InternalError, naming nodes and values, unless the plan is right for the schedule.

    Checked: every value has an aligned offset inside the arena; every node finds its inputs' bytes
    unharmed, and the caller the outputs'; the first output overlaps an input of its node only at
    the distance its kernel allows, and so does scratch; other outputs overlap nothing; a node
    without code finds its output in place. State is not in the arena; whoever reads it finds the
    version it asks for, and at the end every state is the one that the graph wants.
    """
    by_node = {c.node.name: c for c in calls}
    arena = _Arena(graph, plan)
    arena.check_numbers(by_node)
    arena.fill_inputs()
    state = StateCheck(graph)
    for node in graph.nodes:
        arena.run(node, by_node.get(node.name))
        state.run(node, by_node.get(node.name))
    state.finish()
    for value in graph.outputs:
        if value not in graph.initializers:
            arena.read(value, _CALLER)


class _Arena:
    def __init__(self, graph: Graph, plan: MemoryPlan) -> None:
        self.graph = graph
        self.plan = plan
        self.paint: list[_Paint] = []  # disjoint
        self.holds: dict[Value, tuple[_Piece, ...]] = {}
        self.versions = {new for node in graph.nodes for _, new in node.updates}  # of state

    def check_numbers(self, by_node: dict[str, KernelCall]) -> None:
        plan = self.plan
        if plan.order != tuple(n.name for n in self.graph.nodes):
            raise wrong("the plan is for another order of the nodes")
        if not 0 <= plan.lower_bound_bytes <= plan.arena_bytes:
            raise wrong(
                f"the lower bound {plan.lower_bound_bytes} is above the arena {plan.arena_bytes}"
            )
        sizes: list[tuple[str, int | None, int]] = [
            (f"%{v.name}", plan.offsets.get(v), v.type.bytes)
            for v in (*self.graph.inputs, *(v for n in self.graph.nodes for v in self.made(n)))
        ]
        sizes += [
            (f"the scratch of %{name}", plan.scratch.get(name), call.scratch_bytes)
            for name, call in by_node.items()
            if call.scratch_bytes
        ]
        for what, offset, size in sizes:
            if offset is None:
                raise wrong(f"{what} has no offset")
            if offset < 0 or offset + size > plan.arena_bytes:
                raise wrong(
                    f"{what} lies at {offset}…{offset + size}, "
                    f"outside the arena of {plan.arena_bytes} B"
                )
            if offset % plan.alignment:
                raise wrong(f"{what} lies at {offset}, no multiple of {plan.alignment}")

    def made(self, node: Node) -> tuple[Value, ...]:
        """The outputs that belong into the arena: all but new versions of state."""
        return tuple(v for v in node.outputs if v not in self.versions)

    def fill_inputs(self) -> None:
        for value in self.graph.inputs:
            self.write(value, _CALLER)
        for value in self.graph.inputs:  # they must not overwrite each other, read or not
            self.read(value, _CALLER)

    def run(self, node: Node, call: KernelCall | None) -> None:
        name = label(node)
        sources = [
            (i, v)
            for i, v in enumerate(node.inputs)
            if v not in self.graph.initializers and v not in self.versions
        ]
        if node.name in self.plan.in_place and node.op.name == "slice":
            self.cut_out(node, [v for _, v in sources])  # the rest may have been overwritten
            self.read(node.outputs[0], name)
            return
        for _, value in sources:
            self.read(value, name)
        if node.name in self.plan.in_place:
            self.rename(node, [v for _, v in sources])
            return
        if call is None and (sources or not node.op.is_view):  # a view of a constant is copied
            raise wrong("a node without a kernel is not in place", node)
        if call is not None:
            self.check_overlaps(node, call, sources)
        for value in self.made(node):
            self.write(value, name)
        for value in self.made(node):
            self.read(value, name)

    def check_overlaps(
        self, node: Node, call: KernelCall, sources: Sequence[tuple[int, Value]]
    ) -> None:
        name = label(node)
        for value in self.made(node):
            for index, source in sources:
                self.check_overlap(node, call, value, index, source)
        if call.scratch_bytes:
            at = self.plan.scratch[node.name]
            leads = [(v, call.kernel.scratch_lead_bytes(node, i)) for i, v in sources]
            for value, lead in (*leads, *((v, None) for v in self.made(node))):
                start = self.plan.offsets[value]
                apart = at >= start + value.type.bytes or start >= at + call.scratch_bytes
                if not apart and (lead is None or at > start - lead):
                    raise wrong(f"the scratch of {name} overlaps its own %{value.name}", node)
            self.cover(_Paint(at, at + call.scratch_bytes, f"scratch of {name}", 0, name))

    def check_overlap(
        self, node: Node, call: KernelCall, value: Value, index: int, source: Value
    ) -> None:
        out, at = self.plan.offsets[value], self.plan.offsets[source]
        if out >= at + source.type.bytes or at >= out + value.type.bytes:
            return
        lead = call.kernel.lead_bytes(node, index)
        if lead is None or value != node.outputs[0]:
            raise wrong(
                f"the output %{value.name} at {out} overlaps the input %{source.name} at {at}, "
                f"and kernel {call.kernel.name} forbids that",
                node,
            )
        if isinstance(lead, InPlaceOnly) and out != at:
            raise wrong(
                f"the output %{value.name} at {out} overlaps the input %{source.name} at {at}: "
                f"kernel {call.kernel.name} allows that only at the same place",
                node,
            )
        if out > at - lead:
            raise wrong(
                f"the output %{value.name} at {out} is too close to the input %{source.name} "
                f"at {at}: kernel {call.kernel.name} needs a lead of {lead}",
                node,
            )

    def rename(self, node: Node, sources: Sequence[Value]) -> None:
        """A node without code: its inputs, one after the other, must be its output's bytes."""
        (value,) = node.outputs
        at = self.plan.offsets[value]
        pieces: list[_Piece] = []
        for source in sources:
            if self.plan.offsets[source] != at:
                raise wrong(
                    f"%{source.name} at {self.plan.offsets[source]} is not where %{value.name} "
                    f"wants it, at {at}",
                    node,
                )
            at += source.type.bytes
            pieces += self.holds[source]
        if at != self.plan.offsets[value] + value.type.bytes or len(sources) != len(node.inputs):
            raise wrong(f"%{value.name} is not made of its inputs' bytes", node)
        if not (node.op.is_view or _is_plain_concat(node)):
            raise wrong(f"{node.op.name} cannot be in place without code", node)
        self.holds[value] = tuple(pieces)

    def cut_out(self, node: Node, sources: Sequence[Value]) -> None:
        """A slice without code: it must be where its elements are in its input."""
        (value,) = node.outputs
        skip = _bytes_before(node)
        if skip is None or len(sources) != 1:
            raise wrong("this slice cannot be in place without code", node)
        start = self.plan.offsets[sources[0]]
        if self.plan.offsets[value] != start + skip:
            raise wrong(
                f"%{value.name} at {self.plan.offsets[value]} is not where its elements are, "
                f"{skip} bytes into %{sources[0].name} at {start}",
                node,
            )
        end = skip + value.type.bytes
        pieces: list[_Piece] = []
        at = 0
        for piece in self.holds[sources[0]]:
            low, high = max(at, skip), min(at + piece.bytes, end)
            if low < high:
                pieces.append(_Piece(piece.content, piece.skip + low - at, high - low))
            at += piece.bytes
        self.holds[value] = tuple(pieces)

    def write(self, value: Value, writer: str) -> None:
        start = self.plan.offsets[value]
        self.cover(_Paint(start, start + value.type.bytes, value.name, 0, writer))
        self.holds[value] = (_Piece(value.name, 0, value.type.bytes),)

    def cover(self, new: _Paint) -> None:
        kept: list[_Paint] = []
        for old in self.paint:
            if old.end <= new.start or new.end <= old.start:
                kept.append(old)
                continue
            if old.start < new.start:
                kept.append(_Paint(old.start, new.start, old.content, old.skip, old.writer))
            if new.end < old.end:
                skip = old.skip + new.end - old.start
                kept.append(_Paint(new.end, old.end, old.content, skip, old.writer))
        self.paint = [*kept, new]

    def read(self, value: Value, reader: str) -> None:
        at = self.plan.offsets[value]
        for piece in self.holds[value]:
            found = 0
            for old in self.paint:
                low, high = max(old.start, at), min(old.end, at + piece.bytes)
                if low >= high:
                    continue
                if (old.content, old.skip + low - old.start) != (
                    piece.content,
                    piece.skip + low - at,
                ):
                    raise wrong(
                        f"{reader} reads %{value.name}, whose bytes {low}…{high} "
                        f"were overwritten by {old.writer}"
                    )
                found += high - low
            if found != piece.bytes:
                raise wrong(f"{reader} reads %{value.name}, which nobody wrote there")
            at += piece.bytes


def _is_plain_concat(node: Node) -> bool:
    """Whether the output is the inputs' bytes one after the other, values unchanged."""
    if node.op.name != "concat":
        return False
    axis = node.attrs.axis % node.y.rank
    return all(d == 1 for d in node.y.shape[:axis]) and all(
        v.type.quant == node.y.quant and v.type.dtype == node.y.dtype for v in node.inputs
    )


def _bytes_before(node: Node) -> int | None:
    """Bytes of a slice's input before its first element; None unless they all lie side by side."""
    shape, attrs = node.x.shape, node.attrs
    if len(attrs.axes) != 1 or attrs.steps != (1,) or node.x.quant != node.y.quant:
        return None
    axis = attrs.axes[0]
    if any(d != 1 for d in shape[:axis]):
        return None
    row = node.x.bytes // shape[axis]
    return int(attrs.starts[0]) * row

"""Which values share bytes, from when to when they are needed, and which may overlap.

Views (`op.is_view`) share the bytes of their input. A `concat` along its outermost axis longer than
1 can be laid out in place: its inputs are then parts of its output from the start, and it needs no
code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from ..ir.graph import Graph, Node, Value
from ..kernels.kernel import InPlaceOnly
from .model import Buffer

ScratchOf = Callable[[Node], int]
LeadOf = Callable[[Node, int], int | None]


def is_view(graph: Graph, node: Node) -> bool:
    """Whether the node's output is its input's bytes; a view of a constant is not, it needs a
    copy."""
    return node.op.is_view and node.inputs[0] not in graph.initializers


def alias_roots(graph: Graph) -> Mapping[Value, Value]:
    """For every value in the arena the value whose bytes it is: itself unless it is a view.

    State is not in the arena.
    """
    roots = {v: v for v in graph.inputs}
    for node in graph.nodes:
        for value in graph.results(node):
            roots[value] = roots[node.inputs[0]] if is_view(graph, node) else value
    return roots


def live_buffers(
    graph: Graph, scratch_of: ScratchOf, concats: frozenset[str] = frozenset()
) -> tuple[Buffer, ...]:
    """The buffers of the arena in order of definition.

    concats: names of `concat` nodes to lay out in place, from `concats_in_place`.
    """
    roots = alias_roots(graph)
    members: dict[Value, list[Value]] = {}
    for value, root in roots.items():
        members.setdefault(root, []).append(value)
    last: dict[Value, int] = {}
    for step, node in enumerate(graph.nodes):
        for value in (*node.inputs, *node.outputs):
            if value in roots:
                last[roots[value]] = step
    last |= {roots[v]: len(graph.nodes) for v in graph.outputs if v in roots}
    outputs = {roots[v] for v in graph.outputs if v in roots}

    def buffer(root: Value, first: int, origin: str) -> Buffer:
        return Buffer(
            root.name,
            root.type.bytes,
            first,
            last.get(root, first),
            tuple(members[root]),
            origin,
            is_input=first < 0,
            is_output=root in outputs,
        )

    found = [buffer(v, -1, "") for v in dict.fromkeys(graph.inputs)]
    for step, node in enumerate(graph.nodes):
        if scratch_of(node):
            found.append(
                Buffer(
                    node.name, scratch_of(node), step, step, (), str(node.origin), is_scratch=True
                )
            )
        found += [buffer(v, step, str(node.origin)) for v in graph.results(node) if roots[v] == v]
    return _lay_out_parts(graph, found, concats)


def _lay_out_parts(
    graph: Graph, buffers: Sequence[Buffer], concats: frozenset[str]
) -> tuple[Buffer, ...]:
    parts: dict[str, tuple[str, int, int]] = {}
    for step, node in enumerate(graph.nodes):
        if node.name in concats:
            start = 0
            for value in node.inputs:
                parts[value.name] = (node.outputs[0].name, start, step - 1)
                start += value.type.bytes
    return tuple(
        b
        if b.is_scratch or b.name not in parts
        else replace(b, host=parts[b.name][0], start=parts[b.name][1], last=parts[b.name][2])
        for b in buffers
    )


def concats_in_place(graph: Graph, alignment: int) -> frozenset[str]:
    """Names of the `concat` nodes that can be laid out in place.

    All axes before the concatenated one have length 1; every input is a node's output that only
    this node reads, once, and no view or concatenation of one; it has the output's quantisation;
    and every part starts at a multiple of `alignment`.
    """
    roots = alias_roots(graph)
    viewed = {root for value, root in roots.items() if value != root}
    found: set[str] = set()
    for node in graph.nodes:
        if node.op.name != "concat":
            continue
        y = node.y
        if math.prod(y.shape[: node.attrs.axis % y.rank]) != 1:
            continue
        starts = [sum(v.type.bytes for v in node.inputs[:i]) for i in range(len(node.inputs))]
        if any(start % alignment for start in starts):
            continue
        if len(set(node.inputs)) == len(node.inputs) and all(
            v in graph.producer
            and v not in viewed
            and roots[v] == v
            and graph.sole_consumer(v) is node
            and v.type.quant == y.quant
            for v in node.inputs
        ):
            found.add(node.name)
    return frozenset(found)


def legal_overlaps(
    graph: Graph,
    buffers: Sequence[Buffer],
    lead_of: LeadOf,
    scratch_lead_of: LeadOf = lambda node, index: None,
) -> Mapping[tuple[int, int], int]:
    """(index of an output or scratch buffer, index of an input buffer) → lead in bytes, where both
    may overlap.

    The first output of a node, and its scratch, may overlap an input that no later step needs, when
    the node's kernel allows it for every position at which it reads that buffer; the largest lead
    counts, and IN_PLACE_ONLY before those that are 0 or less. Other outputs overlap nothing.
    """
    index = {v: i for i, b in enumerate(buffers) for v in b.values}
    scratch = {b.name: i for i, b in enumerate(buffers) if b.is_scratch}
    found: dict[tuple[int, int], int] = {}
    for step, node in enumerate(graph.nodes):
        over = ((index.get(node.outputs[0]), lead_of), (scratch.get(node.name), scratch_lead_of))
        for writer, leads_of in over:
            if writer is None or is_view(graph, node):
                continue
            for source, lead in _leads(node, index, leads_of).items():
                if buffers[source].last == step:
                    found[writer, source] = lead
    return found


def _leads(node: Node, index: Mapping[Value, int], lead_of: LeadOf) -> dict[int, int]:
    """The lead by input buffer, of those that something may overlap."""
    leads: dict[int, list[int | None]] = {}
    for position, value in enumerate(node.inputs):
        if value in index:
            leads.setdefault(index[value], []).append(lead_of(node, position))
    found: dict[int, int] = {}
    for i, given in leads.items():
        known = [lead for lead in given if lead is not None]
        strict = [lead for lead in known if isinstance(lead, InPlaceOnly)]
        if len(known) == len(given) and (not strict or max(known) == 0):
            found[i] = strict[0] if strict else max(known)
    return found

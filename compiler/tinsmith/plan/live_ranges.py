"""Which values share bytes, from when to when they are needed, and which may overlap.

Views (`op.is_view`) share the bytes of their input. A `concat` along its outermost axis longer than
1 can be laid out in place: its inputs are then parts of its output from the start, and it needs no
code. Nor does a `slice` of rows: its readers find them inside its input, and where all readers of a
value are such slices its rows are dead as soon as the last slice that holds them is.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
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


def alias_roots(graph: Graph, slices: frozenset[str] = frozenset()) -> Mapping[Value, Value]:
    """For every value in the arena the value whose bytes it is: itself unless it is a view.

    State is not in the arena. slices: in place, from `slices_in_place`; they count as views.
    """
    roots = {v: v for v in graph.inputs}
    for node in graph.nodes:
        shares = is_view(graph, node) or (node.op.name == "slice" and node.name in slices)
        for value in graph.results(node):
            roots[value] = roots[node.inputs[0]] if shares else value
    return roots


def live_buffers(
    graph: Graph, scratch_of: ScratchOf, laid_out: frozenset[str] = frozenset()
) -> tuple[Buffer, ...]:
    """The buffers of the arena in order of definition.

    laid_out: names of `concat` and `slice` nodes to lay out in place, from `in_place`.
    """
    roots = alias_roots(graph, laid_out)
    slices = {n.outputs[0]: n for n in graph.nodes if n.op.name == "slice" and n.name in laid_out}
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
            starts=tuple(_start(slices[v]) if v in slices else 0 for v in members[root])
            if not slices.keys().isdisjoint(members[root])
            else (),
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
    return tuple(_lay_out_rows(graph, _lay_out_parts(graph, found, laid_out), laid_out))


def _lay_out_parts(
    graph: Graph, buffers: Sequence[Buffer], laid_out: frozenset[str]
) -> tuple[Buffer, ...]:
    parts: dict[str, tuple[str, int, int]] = {}
    for step, node in enumerate(graph.nodes):
        if node.op.name == "concat" and node.name in laid_out:
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


def _lay_out_rows(
    graph: Graph, buffers: Sequence[Buffer], laid_out: frozenset[str]
) -> Iterator[Buffer]:
    """A value that is read in slices is whole until the first of them; from then on each part of it
    lives as long as a slice that holds it."""
    steps = {n.name: k for k, n in enumerate(graph.nodes)}
    slices: dict[str, list[Node]] = {}
    for node in graph.nodes:
        if node.op.name == "slice" and node.name in laid_out:
            slices.setdefault(node.inputs[0].name, []).append(node)
    for b in buffers:
        held = slices.get(b.name, [])
        if b.is_scratch or not held:
            yield b
            continue
        first = min(steps[n.name] for n in held)
        yield replace(b, last=first)
        spans = [
            (
                _start(n),
                _start(n) + n.y.bytes,
                max((steps[u.name] for u in graph.consumers[n.outputs[0]]), default=steps[n.name]),
            )
            for n in held
        ]
        cuts = sorted({0, b.bytes, *(s[0] for s in spans), *(s[1] for s in spans)})
        for start, end in itertools.pairwise(cuts):
            last = max((s[2] for s in spans if s[0] <= start < s[1]), default=-1)
            if last > first:
                name = f"{b.name}[{start}:{end}]"
                yield Buffer(
                    name, end - start, first + 1, last, (), b.origin, host=b.name, start=start
                )


def _start(node: Node) -> int:
    """Bytes before a slice of the outermost axis longer than 1, in its input."""
    x = node.x
    (axis,), (start,) = node.attrs.axes, node.attrs.starts
    return start * x.bytes // x.shape[axis]


def in_place(graph: Graph, alignment: int) -> frozenset[str]:
    """Names of the `concat` and `slice` nodes that can be laid out in place."""
    return concats_in_place(graph, alignment) | slices_in_place(graph, alignment)


def slices_in_place(graph: Graph, alignment: int) -> frozenset[str]:
    """Names of the `slice` nodes whose readers can find their input inside its input.

    Each takes elements side by side of one axis, all axes before it having length 1, from a
    multiple of `alignment` on; nobody but such slices reads the input, which is no output of the
    graph and has no view; and nobody lays the slice out in a concatenation or views it.
    """
    whole: set[Value] = set(graph.outputs)
    fitting: dict[Value, list[Node]] = {}
    for node in graph.nodes:
        if _is_rows(graph, node, alignment):
            fitting.setdefault(node.inputs[0], []).append(node)
        else:
            whole.update(node.inputs)
    return frozenset(n.name for x, nodes in fitting.items() if x not in whole for n in nodes)


def _is_rows(graph: Graph, node: Node, alignment: int) -> bool:
    if node.op.name != "slice" or len(node.attrs.axes) != 1:
        return False
    x, y = node.inputs[0], node.outputs[0]
    (axis,) = node.attrs.axes
    return (
        x not in graph.initializers
        and x not in graph.storage
        and y not in graph.outputs
        and node.attrs.steps == (1,)
        and math.prod(x.type.shape[:axis]) == 1
        and _start(node) % alignment == 0
        and all(
            u.op.name not in ("concat", "slice") and not u.op.is_view for u in graph.consumers[y]
        )
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
    counts, and IN_PLACE_ONLY before those that are 0 or less. Other outputs overlap nothing. Of a
    slice that is read where it lies this holds for each part of its rows.
    """
    index = _pieces(buffers)
    scratch = {b.name: i for i, b in enumerate(buffers) if b.is_scratch}
    found: dict[tuple[int, int], int] = {}
    for step, node in enumerate(graph.nodes):
        made = index.get(node.outputs[0])
        over = ((made[0][0] if made else None, lead_of), (scratch.get(node.name), scratch_lead_of))
        for writer, leads_of in over:
            if writer is None or is_view(graph, node):
                continue
            for source, lead in _leads(node, index, leads_of).items():
                if buffers[source].last == step and source != writer:
                    found[writer, source] = lead
    return found


def _pieces(buffers: Sequence[Buffer]) -> dict[Value, list[tuple[int, int]]]:
    """Of every value the buffers that hold its bytes while it is read, each with the bytes of the
    value before it."""
    rows: dict[str, list[int]] = {}
    for i, b in enumerate(buffers):
        if b.host is not None and not b.values:
            rows.setdefault(b.host, []).append(i)
    found: dict[Value, list[tuple[int, int]]] = {}
    for i, b in enumerate(buffers):
        for value, start in b.placed_values:
            end = start + value.type.bytes
            parts = rows.get(b.name, []) if value is not b.values[0] else []
            held = [(k, buffers[k].start - start) for k in parts]
            held = [(k, at) for k, at in held if 0 <= at < end - start]
            found[value] = held or [(i, 0)]
    return found


def _leads(
    node: Node, index: Mapping[Value, Sequence[tuple[int, int]]], lead_of: LeadOf
) -> dict[int, int]:
    """The lead by input buffer, of those that something may overlap."""
    leads: dict[int, list[int | None]] = {}
    for position, value in enumerate(node.inputs):
        lead = lead_of(node, position) if value in index else None
        for i, before in index.get(value, ()):
            whole = len(index[value]) == 1
            if lead is None or (isinstance(lead, InPlaceOnly) and not whole):
                leads.setdefault(i, []).append(None)
            else:
                leads.setdefault(i, []).append(lead + before if before else lead)
    found: dict[int, int] = {}
    for i, given in leads.items():
        known = [lead for lead in given if lead is not None]
        strict = [lead for lead in known if isinstance(lead, InPlaceOnly)]
        if len(known) == len(given) and (not strict or max(known) == 0):
            found[i] = strict[0] if strict else max(known)
    return found

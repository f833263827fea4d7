"""Rows of a chain of convolutions in stripes, so that what lies between never exists whole.

High-resolution layers set the arena of small networks: an expansion to six times the channels is
read by a depthwise layer and gone. Cut into stripes of rows, only a stripe of it lives at a time:

    x ─▶ expand ─▶ depthwise ─▶ project ─▶ y      becomes, for every stripe of y's rows,
    slice of x's rows ─▶ expand ─▶ depthwise ─▶ project ─▶ its rows of y (a concat in place)

Rows that the windows of two stripes share are computed once: where `expand` hands over to
`depthwise` the last of them are kept (a slice of the stripe's rows, laid out in place before the
next ones). The slices of x need no copy, and where nobody else reads x the rows of y take the place
of its rows. Every output is computed as before, so results are the same bit for bit. "MCUNetV2"
(Lin et al., 2021) computes such rows twice and calls the stripes patches.

Which chains and how many stripes is decided by the graph alone, so that boards share it: the lowest
limit on live bytes under which every step above it lies in a chain with stripes that keep to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from ..ir.graph import Graph, Node, Origin, Value
from ..ir.rewrite import Rewriter
from ..kernels import registry
from ..kernels.geometry import conv_geometry
from ..kernels.select import candidates
from ..ops import get
from .bounds import lower_bounds
from .chain import ALIGNMENT, STRIPES, Chain, Rows, window
from .live_ranges import in_place, legal_overlaps, live_buffers
from .model import Buffer

LONGEST = 6  # convolutions in a chain
MOST_STRIPES = 16  # each is code that runs once
SLACK = 0.9  # of the limit: room to lay a chain out, where more stripes can leave it
GAIN = 0.95  # a graph whose bound stays above this share of what it was is left alone


def stripe_rows(graph: Graph) -> Graph:
    """The graph with stripes where they lower its live bytes; the same graph where none do.

    For int8 graphs in NHWC, their convolutions lowered.
    """
    needs, buffers = _needs(graph)
    chains = list(_chains(graph, buffers))
    limits = sorted({*needs, *(b for _, b in chains)})
    low, high = 0, len(limits) - 1  # the largest limit always holds
    while low < high:
        middle = (low + high) // 2
        chosen = _choose(needs, chains, limits[middle])
        if chosen is None:
            low = middle + 1
        else:
            high = middle
    chosen = _choose(needs, chains, limits[low]) if limits else None
    if not chosen:
        return graph
    striped = _rewrite(graph, chosen)
    return striped if least_bytes(striped) <= GAIN * max(needs) else graph


def least_bytes(graph: Graph) -> int:
    """Live bytes below which no plan of the nodes in this order can be, with the portable kernels
    and without their scratch."""
    return max(_needs(graph)[0], default=0)


def _choose(
    needs: Sequence[int], chains: Sequence[tuple[Chain, int]], limit: int
) -> list[Chain] | None:
    """Disjoint chains that cover every step above the limit and keep to it, each the cheapest for
    the first such step; None if there are none."""
    found: list[Chain] = []
    reached = -1
    for step, need in enumerate(needs):
        if need <= limit or step <= reached:
            continue
        fitting = [(c, b) for c, b in chains if reached < c.first <= step <= c.last and b <= limit]
        if not fitting:
            return None
        fitting = [f for f in fitting if f[1] <= SLACK * limit] or fitting
        found.append(
            min(
                (c for c, _ in fitting),
                key=lambda c: (c.count * len(c.nodes), c.kept_bytes, -c.last),
            )
        )
        reached = found[-1].last
    return found


def _chains(graph: Graph, buffers: Sequence[Buffer]) -> Iterator[tuple[Chain, int]]:
    """Every chain with every useful number of stripes, and the bytes live at most meanwhile."""
    nodes = graph.nodes
    for first in range(len(nodes)):
        length = 1
        while length < LONGEST and (
            _follows(graph, first + length) or _closes(graph, first, first + length)
        ):
            length += 1
            part = nodes[first : first + length]
            x = part[0].inputs[0]
            own = {x, *(n.outputs[0] for n in part)}
            others = max(_others(buffers, own, first + k) for k in range(length))
            height = part[-1].y.shape[1]
            dies = x not in graph.outputs and set(graph.consumers[x]) <= {part[0], part[-1]}
            for count in range(2, min(height, MOST_STRIPES) + 1):
                chain = Chain(part, first, count, dies)
                if chain.is_possible:
                    yield chain, chain.bytes + others


def _follows(graph: Graph, position: int) -> bool:
    """Whether this node and the one before are links of a chain."""
    if position >= len(graph.nodes):
        return False
    before, node = graph.nodes[position - 1 : position + 1]
    return (
        _is_link(graph, before)
        and _is_link(graph, node)
        and graph.sole_consumer(before.outputs[0]) is node
        and node.inputs[0] == before.outputs[0]
    )


def _closes(graph: Graph, first: int, position: int) -> bool:
    """Whether this node ends the block of convolutions that begins at `first`: adds to its result
    what only the two of them read."""
    if position >= len(graph.nodes) or graph.updates:
        return False
    start, before, node = graph.nodes[first], graph.nodes[position - 1], graph.nodes[position]
    x, y = start.inputs[0], before.outputs[0]
    return (
        node.op.name == "add"
        and node.is_integer
        and _is_link(graph, before)
        and graph.sole_consumer(y) is node
        and set(node.inputs) == {x, y}
        and x.type.shape == y.type.shape
        and x not in graph.outputs
        and set(graph.consumers[x]) == {start, node}
    )


def _is_link(graph: Graph, node: Node) -> bool:
    return (
        node.op.name == "conv2d"
        and node.is_integer
        and node.x.shape[0] == 1
        and all(graph.is_constant(v) for v in node.inputs[1:])
    )


def _others(buffers: Sequence[Buffer], own: set[Value], step: int) -> int:
    return sum(b.bytes for b in buffers if b.live_at(step) and not own.intersection(b.values))


def _needs(graph: Graph) -> tuple[list[int], tuple[Buffer, ...]]:
    """Bytes of each step as in `least_bytes`, and what is live when."""

    def lead_of(node: Node, index: int) -> int | None:
        fitting = candidates(node, graph, frozenset(), registry())
        return fitting[0].lead_bytes(node, index) if fitting else None

    buffers = live_buffers(graph, lambda node: 0, in_place(graph, ALIGNMENT))
    bounds = lower_bounds(buffers, legal_overlaps(graph, buffers, lead_of), len(graph.nodes), 1)
    return list(bounds.steps[1:-1]), buffers


def _rewrite(graph: Graph, chains: Sequence[Chain]) -> Graph:
    rewriter = Rewriter(graph, STRIPES)
    heads = {c.first: c for c in chains}
    reached = -1
    for position, node in enumerate(graph.nodes):
        if position in heads:
            _emit(rewriter, heads[position])
            reached = heads[position].last
        elif position > reached:
            rewriter.keep(node)
    return rewriter.finish()


def _emit(rewriter: Rewriter, chain: Chain) -> None:
    rows_of_y: list[Value] = []
    x, origin = chain.nodes[0].inputs[0], chain.nodes[0].origin
    kept: list[Value | None] = [None] * len(chain.nodes)
    coming = [*chain.stripes[1:], None]
    for stripe, after in zip(chain.stripes, coming, strict=True):
        part = _slice(rewriter, x, stripe.read[0], origin)
        for k, node in enumerate(chain.nodes):
            before = kept[k]
            if before is not None:
                # A copy of its own: rows kept where the next part begins would hold that place
                # while this part, which they come from, is still there.
                rows = before.type.shape[1]
                before = _slice(rewriter, before, (0, rows), node.origin)
                part = _join(rewriter, before, part, node.origin)
            kept[k] = None
            if after is not None and (count := after.kept(k)):
                last = part.type.shape[1]
                kept[k] = _slice(rewriter, part, (last - count, last), node.origin)
            if node.op.name == "conv2d":
                part = _emit_rows(rewriter, node, part, stripe.read[k], stripe.made[k])
            else:
                added = _slice(rewriter, x, stripe.made[k], node.origin)
                part = _emit_sum(rewriter, node, {x: added, chain.nodes[k - 1].outputs[0]: part})
        rows_of_y.append(part)
    concat, last = get("concat"), chain.nodes[-1]
    rewriter.emit(concat, rows_of_y, concat.attrs(1), origin=last.origin, outputs=last.outputs)


def _join(rewriter: Rewriter, kept: Value, made: Value, origin: Origin) -> Value:
    op, rows = get("concat"), kept.type.shape[1] + made.type.shape[1]
    type_ = made.type.with_shape((1, rows, *made.type.shape[2:]))
    name = f"{made.name}.joined"
    return rewriter.emit(op, [kept, made], op.attrs(1), origin=origin, name=name, types=[type_])[0]


def _slice(rewriter: Rewriter, x: Value, rows: Rows, origin: Origin) -> Value:
    op, (first, last) = get("slice"), rows
    attrs = op.attrs((1,), (first,), (last - first,), (1,))
    type_ = x.type.with_shape((1, last - first, *x.type.shape[2:]))
    return rewriter.emit(op, [x], attrs, origin=origin, name=f"{x.name}.rows", types=[type_])[0]


def _emit_rows(rewriter: Rewriter, node: Node, x: Value, taken: Rows, made: Rows) -> Value:
    first, last = window(conv_geometry(node), *made)
    pads = (taken[0] - first, node.attrs.pads[1], last - taken[1], node.attrs.pads[3])
    type_ = node.y.with_shape((1, made[1] - made[0], *node.y.shape[2:]))
    (y,) = rewriter.emit(
        node.op,
        [x, *node.inputs[1:]],
        replace(node.attrs, pads=pads),
        origin=node.origin,
        name=f"{node.name}.rows",
        types=[type_],
    )
    return y


def _emit_sum(rewriter: Rewriter, node: Node, rows: Mapping[Value, Value]) -> Value:
    """rows: of each input of the node."""
    (y,) = rewriter.emit(
        node.op,
        [rows[v] for v in node.inputs],
        node.attrs,
        origin=node.origin,
        name=f"{node.name}.rows",
        types=[node.y.with_shape(rows[node.inputs[0]].type.shape)],
    )
    return y

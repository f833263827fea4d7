"""Rows of a chain of convolutions in stripes, so that what lies between never exists whole.

High-resolution layers set the arena of small networks: an expansion to six times the channels is
read by a depthwise layer and gone. Cut into stripes of rows, only a stripe of it lives at a time:

    x ─▶ expand ─▶ depthwise ─▶ project ─▶ y      becomes, for every stripe of y's rows,
    slice of x's rows ─▶ expand ─▶ depthwise ─▶ project ─▶ its rows of y (a concat in place)

Every output is computed as before, so results are the same bit for bit; the rows where the windows
of two stripes overlap are computed twice. "MCUNetV2" (Lin et al., 2021) calls it patches.

Which chains and how many stripes is decided by the graph alone, so that boards share it: the lowest
limit on live bytes under which every step above it lies in a chain with stripes that keep to it,
the repeated rows costing at most a share of the convolutions' MACs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

from ..ir.graph import Graph, Node, Origin, Value
from ..ir.rewrite import Rewriter
from ..kernels import registry
from ..kernels.geometry import Geometry, conv_geometry, forward_lead
from ..kernels.select import candidates
from ..ops import get
from .bounds import lower_bounds
from .live_ranges import legal_overlaps, live_buffers
from .model import Buffer

MOST_REPEATED = 0.03  # of the convolutions' MACs
LONGEST = 4  # convolutions in a chain
MOST_STRIPES = 16  # each is code that runs once
ALIGNMENT = 16  # the largest of any target: a stripe of y must start there to need no copy
GAIN = 0.95  # a graph whose bound stays above this share of what it was is left alone

Rows = tuple[int, int]  # [first, last)


@dataclass(frozen=True)
class Chain:
    """Convolutions, each read by the next alone. first: position of the first in the graph.

    count: stripes; 1 is the chain as it was.
    """

    nodes: tuple[Node, ...]
    first: int
    count: int

    @property
    def last(self) -> int:
        return self.first + len(self.nodes) - 1

    @cached_property
    def stripes(self) -> tuple[tuple[Rows, ...], ...]:
        """Per stripe the rows of x, of what each node makes, and so of y; as even as possible."""
        height = self.nodes[-1].y.shape[1]
        cuts = [height * k // self.count for k in range(self.count + 1)]
        return tuple(self._rows(a, b) for a, b in pairwise(cuts))

    def _rows(self, first: int, last: int) -> tuple[Rows, ...]:
        rows = [(first, last)]
        for node in reversed(self.nodes):
            g = conv_geometry(node)
            first, last = _window(g, first, last)
            first, last = max(first, 0), min(last, g.in_h)
            rows.append((first, last))
        return tuple(reversed(rows))

    @cached_property
    def repeated_macs(self) -> int:
        """MACs of rows that are computed more than once."""
        total = 0
        for k, node in enumerate(self.nodes):
            rows = sum(s[k + 1][1] - s[k + 1][0] for s in self.stripes)
            total += node.op.macs(node) * rows // node.y.shape[1]
        return total - sum(n.op.macs(n) for n in self.nodes)

    @cached_property
    def bytes(self) -> int:
        """Live at most, x and y whole; of what lies between two nodes as it overlaps at best."""
        ends = self.nodes[0].x.bytes + self.nodes[-1].y.bytes
        return ends + max(self._live(stripe) for stripe in self.stripes)

    def _live(self, stripe: tuple[Rows, ...]) -> int:
        sizes = [self.nodes[0].x.bytes // self.nodes[0].x.shape[1]]
        sizes += [n.y.bytes // n.y.shape[1] for n in self.nodes]
        held = [size * (b - a) for size, (a, b) in zip(sizes, stripe, strict=True)]
        most = 0
        for k, node in enumerate(self.nodes[:-1]):
            lead = forward_lead(_striped(conv_geometry(node), stripe[k], stripe[k + 1]))
            apart = held[k] + held[k + 1]
            most = max(most, min(apart, max(held[k] + lead, held[k + 1])))
        return max(most, held[-2])

    @property
    def is_possible(self) -> bool:
        """Whether every stripe reads something, and its rows of y can lie where they belong."""
        row = self.nodes[-1].y.bytes // self.nodes[-1].y.shape[1]
        return all(
            s[-1][0] * row % ALIGNMENT == 0 and all(a < b for a, b in s) for s in self.stripes
        )


def stripe_rows(graph: Graph, most_repeated: float = MOST_REPEATED) -> Graph:
    """The graph with stripes where they lower its live bytes; the same graph where none do.

    For int8 graphs in NHWC, their convolutions lowered. most_repeated: rows computed more than
    once, as a fraction of the MACs of all `conv2d` nodes.
    """
    needs, buffers = _needs(graph)
    chains = list(_chains(graph, buffers))
    limits = sorted({*needs, *(b for _, b in chains)})
    budget = most_repeated * sum(n.op.macs(n) for n in graph.nodes if n.op.name == "conv2d")
    low, high = 0, len(limits) - 1  # the largest limit always holds
    while low < high:
        middle = (low + high) // 2
        chosen = _choose(needs, chains, limits[middle])
        if chosen is None or sum(c.repeated_macs for c in chosen) > budget:
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
        fitting = [c for c, b in chains if reached < c.first <= step <= c.last and b <= limit]
        if not fitting:
            return None
        found.append(min(fitting, key=lambda c: (c.repeated_macs, c.count, len(c.nodes), -c.last)))
        reached = found[-1].last
    return found


def _chains(graph: Graph, buffers: Sequence[Buffer]) -> Iterator[tuple[Chain, int]]:
    """Every chain with every useful number of stripes, and the bytes live at most meanwhile."""
    nodes = graph.nodes
    for first in range(len(nodes)):
        length = 1
        while length < LONGEST and _follows(graph, first + length):
            length += 1
            part = nodes[first : first + length]
            own = {part[0].inputs[0], *(n.outputs[0] for n in part)}
            others = max(_others(buffers, own, first + k) for k in range(length))
            height = part[-1].y.shape[1]
            for count in range(2, min(height, MOST_STRIPES) + 1):
                chain = Chain(part, first, count)
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

    buffers = live_buffers(graph, lambda node: 0)
    bounds = lower_bounds(buffers, legal_overlaps(graph, buffers, lead_of), len(graph.nodes), 1)
    return list(bounds.steps[1:-1]), buffers


def _rewrite(graph: Graph, chains: Sequence[Chain]) -> Graph:
    rewriter = Rewriter(graph, "stripe_rows")
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
    parts: list[Value] = []
    x = chain.nodes[0].inputs[0]
    for stripe in chain.stripes:
        part = _slice(rewriter, x, stripe[0], chain.nodes[0].origin)
        for node, taken, made in zip(chain.nodes, stripe, stripe[1:], strict=False):
            part = _emit_rows(rewriter, node, part, taken, made)
        parts.append(part)
    concat, last = get("concat"), chain.nodes[-1]
    rewriter.emit(concat, parts, concat.attrs(1), origin=last.origin, outputs=last.outputs)


def _slice(rewriter: Rewriter, x: Value, rows: Rows, origin: Origin) -> Value:
    op, (first, last) = get("slice"), rows
    attrs = op.attrs((1,), (first,), (last - first,), (1,))
    type_ = x.type.with_shape((1, last - first, *x.type.shape[2:]))
    return rewriter.emit(op, [x], attrs, origin=origin, name=f"{x.name}.rows", types=[type_])[0]


def _emit_rows(rewriter: Rewriter, node: Node, x: Value, taken: Rows, made: Rows) -> Value:
    first, last = _window(conv_geometry(node), *made)
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


def _window(g: Geometry, first: int, last: int) -> Rows:
    """Input rows, the border included, that the output rows [first, last) read."""
    start = first * g.stride_h - g.pad_top
    return start, (last - 1) * g.stride_h - g.pad_top + (g.kernel_h - 1) * g.dilation_h + 1


def _striped(g: Geometry, taken: Rows, made: Rows) -> Geometry:
    top = taken[0] - _window(g, *made)[0]
    return replace(g, in_h=taken[1] - taken[0], out_h=made[1] - made[0], pad_top=top)

"""Move relu and clip into the `clamp` of the operator that computes their input.

In int8 a clamp costs nothing: it only narrows the saturation that every kernel does anyway.
"""

from __future__ import annotations

import math
from dataclasses import replace

from ..ir.graph import Graph, Node
from ..ir.rewrite import Rewriter
from ..ops import registry
from ..pass_manager import Pass, PassContext
from ._chains import Chain, chain_above, emit_chain


def run(graph: Graph, context: PassContext) -> Graph:
    """To a fixed point, because clips may follow one another."""
    while (fused := _fuse(graph)) is not graph:
        graph = fused
    del context
    return graph


def _fuse(graph: Graph) -> Graph:
    heads = tuple(name for name, op in registry().items() if hasattr(op.attrs(), "clamp"))
    chains: dict[Node, Chain] = {}
    taken: set[Node] = set()
    for node in graph.nodes:
        if _bounds(node) is None:
            continue
        chain = chain_above(graph, node, heads)
        if chain and not taken.intersection(chain.nodes):
            chains[node] = chain
            taken.update(chain.nodes)
    if not chains:
        return graph
    rewriter = Rewriter(graph, PASS.name)
    for node in graph.nodes:
        bounds = _bounds(node)
        if node in chains and bounds:
            head = chains[node].head
            attrs = replace(head.attrs, clamp=_narrowed(head.attrs.clamp, bounds))
            emit_chain(rewriter, chains[node], head.inputs, attrs, node.outputs)
        elif node not in taken:
            rewriter.keep(node)
    return rewriter.finish()


def _bounds(node: Node) -> tuple[float, float] | None:
    if node.op.name == "relu":
        return (0.0, math.inf)
    if node.op.name == "clip":
        return (node.attrs.low, node.attrs.high)
    return None


def _narrowed(first: tuple[float, float], second: tuple[float, float]) -> tuple[float, float]:
    """The bounds of clipping to `first`, then to `second`."""
    low, high = second
    return (min(max(first[0], low), high), min(max(first[1], low), high))


PASS = Pass("fuse_activation", run)

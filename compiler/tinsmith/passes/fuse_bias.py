"""Move a constant that is added to a dense or conv2d result into its bias.

Exporters write a fully connected layer as MatMul and Add; int8 needs the bias in its accumulator.
"""

from __future__ import annotations

import math
from dataclasses import replace

from ..ir.graph import Graph, Node, Value
from ..ir.rewrite import Rewriter
from ..ops import get
from ..ops._clamp import UNBOUNDED
from ..ops._constants import evaluate_constant, moved_quant
from ..pass_manager import Pass, PassContext
from ._chains import Chain, chain_above, emit_chain

_INTO = ("dense", "conv2d")


def run(graph: Graph, context: PassContext) -> Graph:
    del context
    found: dict[Node, tuple[Chain, Value]] = {}
    for node in graph.nodes:
        if node.op.name == "add" and (match := _match(graph, node)):
            found[node] = match
    deferred = {n for chain, _ in found.values() for n in chain.nodes}
    rewriter = Rewriter(graph, PASS.name)
    for node in graph.nodes:
        if node in found:
            chain, addend = found[node]
            x, w, bias = chain.head.inputs
            inputs = [x, w, _as_bias(graph, rewriter, node, addend, bias)]
            attrs = replace(chain.head.attrs, clamp=node.attrs.clamp)
            emit_chain(rewriter, chain, inputs, attrs, node.outputs)
        elif node not in deferred:
            rewriter.keep(node)
    return rewriter.finish()


def _match(graph: Graph, node: Node) -> tuple[Chain, Value] | None:
    for index in (0, 1):
        addend = node.inputs[1 - index]
        chain = chain_above(graph, node, _INTO, index)
        if (
            chain is None
            or chain.head.attrs.clamp != UNBOUNDED
            or node.inputs[index].type != node.y
        ):
            continue
        if len(chain.head.inputs) != 3 or not graph.is_constant(chain.head.inputs[2]):
            continue
        if not _per_channel(chain, node, addend):
            continue
        if graph.is_constant(addend):
            return chain, addend
        # integers have no other bias to be added to
        if _stored(graph, addend) and not graph.constant(chain.head.inputs[2]).any():
            return chain, addend
    return None


def _per_channel(chain: Chain, node: Node, addend: Value) -> bool:
    """Whether the addend has one element per output channel, on the channel's axis."""
    axis = chain.channel_axis()
    if axis is None:
        return False
    channels, from_end = node.y.shape[axis], axis - node.y.rank
    shape = addend.type.shape
    return (
        addend.type.elements == channels and len(shape) >= -from_end and shape[from_end] == channels
    )


def _stored(graph: Graph, value: Value) -> Value | None:
    """The constant below a dequantize."""
    maker = graph.producer.get(value)
    if maker and maker.op.name == "dequantize" and graph.is_constant(maker.inputs[0]):
        return maker.inputs[0]
    return None


def _as_bias(graph: Graph, rewriter: Rewriter, node: Node, addend: Value, bias: Value) -> Value:
    channels = math.prod(addend.type.shape)
    q = _stored(graph, addend)
    if q is None:
        total = graph.constant(addend).reshape(channels) + graph.constant(bias)
        return rewriter.constant(f"{addend.name}.bias", total)
    if addend.type.shape == (channels,):
        return addend
    reshape = get("reshape")
    attrs = reshape.attrs((channels,))
    (array,) = evaluate_constant(reshape, attrs, [q], [graph.constant(q)])
    quant = moved_quant(reshape, attrs, q.type, (channels,))
    moved = rewriter.constant(f"{q.name}.bias", array, quant)
    name = f"{addend.name}.bias"
    return rewriter.emit(get("dequantize"), [moved], origin=node.origin, name=name)[0]


PASS = Pass("fuse_bias", run)

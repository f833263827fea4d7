"""Put batch normalisation into the conv2d or dense before it, or into operators that int8 has.

In inference it is x · factor + offset per channel. After a convolution nobody else reads, the
factor scales the filters and the offset joins the bias. Elsewhere it becomes a depthwise 1×1 conv2d
(images) or mul and add (the rest).
"""

from __future__ import annotations

import numpy as np

from ..ir.dtypes import Array
from ..ir.graph import Graph, Node, Value
from ..ir.rewrite import Rewriter
from ..ops import get
from ..ops.batch_norm import affine, channel_axis
from ..pass_manager import Pass, PassContext
from ..quant.arithmetic import dequantize_array
from ._chains import Chain, chain_above, emit_chain

_INTO = ("conv2d", "dense")


def run(graph: Graph, context: PassContext) -> Graph:
    del context
    chains: dict[Node, Chain] = {}
    for node in graph.nodes:
        if node.op.name == "batch_norm" and _is_constant(graph, node):
            chain = chain_above(graph, node, _INTO)
            if chain and _foldable(graph, chain, node):
                chains[node] = chain
    deferred = {n for c in chains.values() for n in c.nodes}
    rewriter = Rewriter(graph, PASS.name)
    for node in graph.nodes:
        if node in deferred:
            continue
        if node.op.name != "batch_norm" or not _is_constant(graph, node):
            rewriter.keep(node)
        elif node in chains:
            head = chains[node].head
            inputs = _scaled(graph, head, node, rewriter)
            emit_chain(rewriter, chains[node], inputs, head.attrs, node.outputs)
        else:
            _replace(graph, node, rewriter)
    return rewriter.finish()


def _is_constant(graph: Graph, node: Node) -> bool:
    return all(_parameter(graph, v) is not None for v in node.inputs[1:])


def _parameter(graph: Graph, value: Value) -> Array | None:
    """A constant, or the real values of a quantised one."""
    made = graph.producer.get(value)
    if made is None or made.op.name != "dequantize":
        return graph.initializers.get(value)
    q = graph.initializers.get(made.inputs[0])
    return None if q is None else dequantize_array(q, made.x)


def _foldable(graph: Graph, chain: Chain, node: Node) -> bool:
    head = chain.head
    if not all(graph.is_constant(v) for v in head.inputs[1:]):
        return False  # quantised weights keep their scales
    if head.attrs.clamp != type(head.attrs)().clamp:
        return False  # an activation lies between
    return chain.channel_axis() == channel_axis(node.attrs) % node.x.rank


def _factor_offset(graph: Graph, node: Node) -> tuple[Array, Array]:
    parameters = [_parameter(graph, v) for v in node.inputs[1:]]
    return affine(node.attrs, *(p for p in parameters if p is not None))


def _scaled(graph: Graph, head: Node, node: Node, rewriter: Rewriter) -> list[Value]:
    """x, filter · factor, bias · factor + offset."""
    factor, offset = _factor_offset(graph, node)
    x, w, bias = head.inputs
    weights = graph.constant(w) * factor.reshape(-1, *(1,) * (w.type.rank - 1))
    biases = graph.constant(bias) * factor + offset
    return [
        x,
        rewriter.constant(f"{w.name}.normalized", weights.astype(np.float32)),
        rewriter.constant(f"{bias.name}.normalized", biases.astype(np.float32)),
    ]


def _replace(graph: Graph, node: Node, rewriter: Rewriter) -> None:
    factor, offset = (a.astype(np.float32) for a in _factor_offset(graph, node))
    x, channels, name = node.inputs[0], factor.size, node.name
    if node.x.rank == 4 and node.attrs.layout == "NCHW":
        conv2d = get("conv2d")
        w = rewriter.constant(f"{name}.factor", factor.reshape(channels, 1, 1, 1))
        bias = rewriter.constant(f"{name}.offset", offset)
        attrs = conv2d.attrs(groups=channels)
        rewriter.emit(conv2d, [x, w, bias], attrs, origin=node.origin, outputs=node.outputs)
        return
    shape = (channels, *(1,) * (node.x.rank - 2)) if node.attrs.layout == "NCHW" else (channels,)
    scale = rewriter.constant(f"{name}.factor", factor.reshape(shape))
    bias = rewriter.constant(f"{name}.offset", offset.reshape(shape))
    (scaled,) = rewriter.emit(get("mul"), [x, scale], origin=node.origin, name=f"{name}.scaled")
    rewriter.emit(get("add"), [scaled, bias], origin=node.origin, outputs=node.outputs)


PASS = Pass("fold_batch_norm", run)

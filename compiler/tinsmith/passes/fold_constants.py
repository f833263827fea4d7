"""Evaluate nodes whose inputs are all constant.

`dequantize` of a constant stays: `fold_qdq` needs its integers. A transpose or reshape above it
acts on the integers instead, so that what reads the result still reads a dequantised constant.
Only a model that is float but for the storage of its weights gets float weights.
"""

from __future__ import annotations

from ..ir.graph import Graph, Node, Value
from ..ir.rewrite import Rewriter
from ..ops import get
from ..ops._constants import MOVEMENTS, evaluate_constant, moved_quant
from ..pass_manager import Pass, PassContext
from ..quant.arithmetic import dequantize_array, quantize_array


def run(graph: Graph, context: PassContext) -> Graph:
    del context
    rewriter = Rewriter(graph, PASS.name)
    stored: dict[Value, Value] = {}  # result of a dequantize → its constant
    quantized = _has_integer_activations(graph)
    for node in graph.nodes:
        inputs = [rewriter.current(v) for v in node.inputs]
        if node.op.name == "dequantize" and quantized:
            kept = rewriter.keep(node)
            if kept.inputs[0] in rewriter.initializers:
                stored[kept.outputs[0]] = kept.inputs[0]
        elif any(v in graph.outputs for v in node.outputs):
            rewriter.keep(node)  # an output is computed, even a constant one
        elif all(v in rewriter.initializers for v in inputs):
            _evaluate(node, inputs, rewriter)
        elif node.op.name == "quantize" and inputs[0] in stored:
            _requantize(node, stored[inputs[0]], rewriter)
        elif node.op.name in MOVEMENTS and inputs[0] in stored:
            q = _move(node, stored[inputs[0]], rewriter)
            if q is None:
                rewriter.keep(node)
                continue
            (y,) = rewriter.emit(get("dequantize"), [q], origin=node.origin, outputs=node.outputs)
            stored[y] = q
        else:
            rewriter.keep(node)
    return rewriter.finish()


def _has_integer_activations(graph: Graph) -> bool:
    return any(
        n.op.name == "quantize" or (n.op.name == "dequantize" and graph.activations(n))
        for n in graph.nodes
    )


def _evaluate(node: Node, inputs: list[Value], rewriter: Rewriter) -> None:
    arrays = evaluate_constant(
        node.op, node.attrs, inputs, [rewriter.initializers[v] for v in inputs]
    )
    for value, array in zip(node.outputs, arrays, strict=True):
        rewriter.rename(value, rewriter.constant(f"{value.name}.folded", array, value.type.quant))


def _requantize(node: Node, q: Value, rewriter: Rewriter) -> None:
    """quantize(dequantize(constant)): some converters quantise stored weights once more."""
    real = dequantize_array(rewriter.initializers[q], q.type)
    made = quantize_array(real, node.y)
    rewriter.rename(node.outputs[0], rewriter.constant(f"{node.name}.folded", made, node.y.quant))


def _move(node: Node, q: Value, rewriter: Rewriter) -> Value | None:
    """The moved integers; None when a reshape would break the quantised axis."""
    try:
        quant = moved_quant(node.op, node.attrs, q.type, node.y.shape)
    except ValueError:
        return None
    (array,) = evaluate_constant(node.op, node.attrs, [q], [rewriter.initializers[q]])
    return rewriter.constant(f"{q.name}.{node.op.name}", array, quant)


PASS = Pass("fold_constants", run)

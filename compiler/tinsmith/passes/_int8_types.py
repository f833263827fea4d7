"""Which scale each float value of a QDQ graph has once it is int8: the decisions of `fold_qdq`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from ..ir.dtypes import DType, Quant
from ..ir.graph import Graph, Node, Value
from ..ir.opdef import Absent

_SAME = 1e-6  # scales closer than this, relatively, differ by far less than an LSB


def same_quant(a: Quant | None, b: Quant | None) -> bool:
    """Whether two per-tensor quantisations mean the same integers."""
    if a is None or b is None or a.zero_point != b.zero_point or a.axis != b.axis:
        return False
    return all(math.isclose(s, t, rel_tol=_SAME) for s, t in zip(a.scale, b.scale, strict=True))


def decide_quants(graph: Graph) -> Mapping[Value, Quant]:
    """The quantisation of every value that can be int8; what is missing has to stay float.

    1. `dequantize` and `quantize` say it outright.
    2. Backwards through data movement: it commutes with quantising, so `conv → max_pool → quantize`
       gives the convolution the scale of the quantize.
    3. Forwards through data movement, and operators whose output has a fixed scale.
    """
    quants: dict[Value, Quant] = {
        v: v.type.quant
        for v in graph.values
        if v.type.dtype is DType.INT8 and v.type.quant is not None
    }
    for node in graph.nodes:
        if node.op.name == "dequantize" and node.x.quant is not None:
            quants[node.outputs[0]] = node.x.quant
    for value in graph.values:
        readers = quantizers(graph, value)
        if readers and value not in quants:
            quants[value] = min((q for q in map(_output_quant, readers)), key=lambda q: q.scale)
    for node in reversed(graph.nodes):
        _backwards(graph, node, quants)
    for node in graph.nodes:
        _forwards(graph, node, quants)
    return quants


def quantizers(graph: Graph, value: Value) -> list[Node]:
    """The per-tensor int8 `quantize` nodes that read a value."""
    return [
        n
        for n in graph.consumers.get(value, ())
        if n.op.name == "quantize" and n.y.dtype is DType.INT8 and _output_quant(n).axis is None
    ]


def scaled_inputs(graph: Graph, node: Node) -> tuple[Value, ...]:
    """The activations that share the output's scale: of data movement, and of concat."""
    if isinstance(node.op.integer, Absent):
        return ()
    rule = node.op.integer.output
    if rule == "as_input":
        return node.inputs[:1]
    if rule == "as_inputs":
        return graph.activations(node)
    return ()


def float_islands(graph: Graph, quants: Mapping[Value, Quant]) -> Iterator[tuple[Node, str]]:
    """The nodes that cannot become int8, with the reason: causes, not what follows from them."""
    broken: set[Value] = set()
    for node in graph.nodes:
        if node.op.name == "dequantize":
            continue
        activations = graph.activations(node)
        inherited = any(v in broken for v in activations)
        reason = _obstacle(graph, node, quants)
        if reason and not inherited:
            yield node, reason
        if reason or (inherited and any(v not in quants for v in node.outputs)):
            broken.update(v for v in node.outputs if v not in quants)


def _obstacle(graph: Graph, node: Node, quants: Mapping[Value, Quant]) -> str:
    if node.op.name == "quantize":
        if node.y.dtype is not DType.INT8 or _output_quant(node).axis is not None:
            return f"it quantises an activation to {node.y.dtype.value} or per channel"
        return ""
    if isinstance(node.op.integer, Absent):
        return f"{node.op.name} has no integer form: {node.op.integer.reason}"
    for value in graph.activations(node):
        if value.type.dtype not in (DType.FLOAT32, DType.INT8):
            return f"its input {value.name!r} is {value.type.dtype.value}"
        if value not in quants and value in graph.inputs:
            return f"its input {value.name!r} is a graph input that nothing quantises"
        if value in quants and quants[value].axis is not None and not _is_weight(graph, value):
            return f"its input {value.name!r} is quantised per channel"
    for value in node.outputs:
        if value not in quants:
            return "its output has no scale: no QuantizeLinear follows it"
    weight = node.op.integer.weight
    for index in (weight.index, weight.bias_index) if weight else ():
        if index is not None and index < len(node.inputs):
            value = node.inputs[index]
            if not _is_weight(graph, value):
                return f"its weight or bias {value.name!r} is not constant"
    return ""


def _is_weight(graph: Graph, value: Value) -> bool:
    """A constant, or the dequantize or quantize → dequantize of one."""
    while value not in graph.initializers:
        node = graph.producer.get(value)
        if node is None or node.op.name not in ("quantize", "dequantize"):
            return False
        value = node.inputs[0]
    return True


def _output_quant(node: Node) -> Quant:
    quant = node.y.quant
    assert quant is not None, "quantize always has a scale"
    return quant


def _backwards(graph: Graph, node: Node, quants: dict[Value, Quant]) -> None:
    known = [quants[v] for v in node.outputs if v in quants]
    if not known:
        return
    widest = max(known, key=lambda q: q.scale)
    for value in scaled_inputs(graph, node):
        if value not in graph.initializers:
            quants.setdefault(value, widest)


def _forwards(graph: Graph, node: Node, quants: dict[Value, Quant]) -> None:
    if isinstance(node.op.integer, Absent):
        return
    inputs = [quants[v] for v in scaled_inputs(graph, node) if v in quants]
    rule = node.op.integer.output
    for value in node.outputs:
        if inputs:
            quants.setdefault(value, max(inputs, key=lambda q: q.scale))
        elif isinstance(rule, tuple):
            quants.setdefault(value, Quant.per_tensor(*rule))

"""The scale of each activation that `insert_qdq` quantises: calibration and operator rules."""

from __future__ import annotations

from collections.abc import Mapping

import networkx as nx

from ..errors import CompileError
from ..ir.dtypes import DType, Quant
from ..ir.graph import Graph, Value
from ..ir.opdef import Absent
from ..quant.calibrate import Calibration
from ..quant.weights import activation_quant
from ._int8_types import decide_quants, quantizers, scaled_inputs


def activation_quants(
    graph: Graph, calibration: Mapping[str, Calibration]
) -> Mapping[Value, Quant]:
    """Float value → per-tensor int8 quantisation, for every value that still needs one.

    Values that data movement connects share one scale, as do the inputs and the output of a concat
    where they are free to; a fixed output (softmax) keeps its own.
    """
    decided = decide_quants(graph) if _is_quantized(graph) else {}
    fixed = dict(decided) | _fixed_outputs(graph)
    groups = _groups(graph, fixed)
    quants: dict[Value, Quant] = {}
    for value in _candidates(graph):
        group = groups[value]
        known = [fixed[v] for v in group if v in fixed]
        quants[value] = fixed.get(value) or (known[0] if known else _of(group, calibration))
    return quants


def _is_quantized(graph: Graph) -> bool:
    return any(n.op.name == "dequantize" for n in graph.nodes)


def _fixed_outputs(graph: Graph) -> dict[Value, Quant]:
    return {
        v: Quant.per_tensor(*n.op.integer.output)
        for n in graph.nodes
        if not isinstance(n.op.integer, Absent) and isinstance(n.op.integer.output, tuple)
        for v in n.outputs
    }


def _candidates(graph: Graph) -> list[Value]:
    """Float activations beside an operator with an integer form, not quantised yet."""
    made = [v for n in graph.nodes if not isinstance(n.op.integer, Absent) for v in n.outputs]
    return [
        v
        for v in (*graph.inputs, *made)
        if v.type.dtype is DType.FLOAT32 and not quantizers(graph, v)
    ]


def _groups(graph: Graph, fixed: Mapping[Value, Quant]) -> Mapping[Value, set[Value]]:
    """Sets of values that must share a scale; a fixed scale never joins through a concat."""
    links = nx.Graph()
    links.add_nodes_from(_candidates(graph))
    for node in graph.nodes:
        concat = not isinstance(node.op.integer, Absent) and node.op.integer.output == "as_inputs"
        for value in scaled_inputs(graph, node):
            for output in node.outputs:
                root_is_fixed = value in links and any(
                    v in fixed for v in nx.node_connected_component(links, value)
                )
                if not (concat and (root_is_fixed or output in fixed)):
                    links.add_edge(value, output)
    return {v: group for group in nx.connected_components(links) for v in group}


def _of(group: set[Value], calibration: Mapping[str, Calibration]) -> Quant:
    """The union of the members' ranges: what moves data sees no more than its source, but a pad
    brings in its constant.
    """
    missing = sorted(v.name for v in group if v.name not in calibration)
    if missing:
        raise CompileError(
            f"there is no calibration for value {missing[0]!r}",
            hint="calibrate the same graph that is quantised",
        )
    ranges = [calibration[v.name] for v in group]
    return activation_quant(min(r.low for r in ranges), max(r.high for r in ranges))

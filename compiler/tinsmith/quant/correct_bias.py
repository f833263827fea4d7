"""Bias correction: take out the shift that rounded weights and inputs give a layer's mean output.

Empirical, per output channel, on the calibration samples: M. Nagel et al., "Data-free quantization
through weight equalization and bias correction" (ICCV 2019), section 4.2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from ..ir.dtypes import Array
from ..ir.graph import Graph, Node, Value
from ..ir.interpret import evaluate
from .batch import fold_weights, rebatched, run_batched


def correct_biases(graph_float: Graph, graph_quantized: Graph, samples: Sequence[Array]) -> Graph:
    """The float graph with corrected biases; quantise it again with the same calibration.

    Every layer is corrected for its own rounded weights, on exact inputs: what layers before it
    shift, they correct themselves.

    Args:
        graph_float: a FLOAT graph in ONNX layout. graph_quantized: the same after `insert_qdq`.
        samples: one float32 array [samples, *shape] per graph input.
    """
    folded = fold_weights(graph_quantized)
    layers = {v: twin for twin in _layers(graph_float, folded) for v in twin[0].outputs}
    shifts: dict[Value, Array] = {}
    for count, values in run_batched(graph_float, samples):
        live: dict[Value, Array] = {}
        for value, array in values:
            live[value] = array
            if value in layers:
                node, errors = layers[value]
                shift = _mean_output(node, live[node.inputs[0]], errors, graph_float, count)
                shifts[value] = shifts.get(value, np.zeros(())) + shift * count
    total = len(samples[0])
    corrected = dict(graph_float.initializers)
    for value, (node, _) in layers.items():
        bias = node.inputs[2]
        corrected[bias] = (corrected[bias] - shifts[value] / total).astype(np.float32)
    return replace(graph_float, initializers=corrected)


def _layers(graph: Graph, folded: Graph) -> Iterator[tuple[Node, Array]]:
    """Layers with a bias of their own, and the rounding error of their weights."""
    twins = {n.outputs[0].name: n for n in folded.nodes}
    for node in graph.nodes:
        if node.op.name not in ("conv2d", "dense"):
            continue
        w, bias = node.inputs[1:3]
        twin = twins.get(f"{node.name}.real")
        if twin is None or not (graph.is_constant(w) and graph.sole_consumer(bias) is node):
            continue
        yield node, folded.initializers[twin.inputs[1]] - graph.initializers[w]


def _mean_output(node: Node, x: Array, weights: Array, graph: Graph, count: int) -> Array:
    """Mean output per channel with other weights, without bias and activation, float64 [O]."""
    linear = replace(node, attrs=replace(node.attrs, clamp=(-np.inf, np.inf)))
    if count > 1:
        linear = rebatched(graph, linear, count)
    zeros = np.zeros(len(weights), np.float32)
    (y,) = evaluate(linear, [x, weights, zeros])
    channel = _channel_axis(y.ndim, node)
    return y.astype(np.float64).mean(axis=tuple(i for i in range(y.ndim) if i != channel))


def _channel_axis(rank: int, node: Node) -> int:
    return 1 if getattr(node.attrs, "layout", "") == "NCHW" else rank - 1

"""Even out the channels between two layers, so that one int8 scale serves all of an activation.

Scaling channel i of a layer's output by 1/s and the next layer's weights for it by s changes
nothing in float: a ReLU passes the factor through. Cross-layer equalisation (M. Nagel et al.,
"Data-free quantization through weight equalization and bias correction", ICCV 2019), with s from
the activations instead of the first layer's weights: those have a scale per output channel anyway.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..ir.dtypes import Array
from ..ir.graph import Graph, Node, Value
from .batch import run_batched

_LIMIT = 32.0  # no channel is amplified more than this


def equalize_channels(graph: Graph, samples: Sequence[Array]) -> tuple[Graph, int]:
    """The FLOAT graph with equalised channels, and how many pairs of layers that concerned.

    samples: one float32 array [samples, *shape] per graph input. ONNX layout.
    """
    pairs = [(n, m) for n in graph.nodes if (m := _next(graph, n)) is not None]
    ranges = _activation_ranges(graph, samples, {n.outputs[0]: n for n, _ in pairs})
    arrays = dict(graph.initializers)
    for first, second in pairs:
        _equalize(first, second, ranges[first.outputs[0]], arrays)
    arrays = {v: a.astype(v.type.dtype.numpy) for v, a in arrays.items()}
    return replace(graph, initializers=arrays), len(pairs)


def _next(graph: Graph, node: Node) -> Node | None:
    """The layer that alone reads this one's output, where a factor per channel can be moved."""
    after = graph.sole_consumer(node.outputs[0])
    if after is None or after.inputs[0] != node.outputs[0]:
        return None
    if not (_is_layer(graph, node) and _is_layer(graph, after)):
        return None
    homogeneous = node.attrs.clamp in ((-math.inf, math.inf), (0.0, math.inf))
    return after if homogeneous and (node.op is after.op) else None


def _is_layer(graph: Graph, node: Node) -> bool:
    """A float conv2d or dense whose constants nobody else reads; with groups only depthwise."""
    if node.op.name not in ("conv2d", "dense") or getattr(node.attrs, "layout", "NCHW") != "NCHW":
        return False
    if not all(graph.is_constant(v) and graph.sole_consumer(v) for v in node.inputs[1:]):
        return False
    return node.op.name == "dense" or node.attrs.groups == 1 or _is_depthwise(node)


def _is_depthwise(node: Node) -> bool:
    w = node.inputs[1].type.shape
    return node.op.name == "conv2d" and node.attrs.groups == w[0] > 1 and w[1] == 1


def _activation_ranges(
    graph: Graph, samples: Sequence[Array], makers: dict[Value, Node]
) -> dict[Value, Array]:
    """Largest magnitude per channel."""
    found: dict[Value, Array] = {}
    for _, values in run_batched(graph, samples):
        for value, array in values:
            if value in makers:
                axis = 1 if makers[value].op.name == "conv2d" else array.ndim - 1
                largest = _ranges(array, axis)
                found[value] = np.maximum(found.get(value, largest), largest)
    return found


def _equalize(first: Node, second: Node, activation: Array, arrays: dict[Value, Array]) -> None:
    """In place: s² = activation range / range of the weights that read it, relative to the largest.

    A depthwise reader has a scale per channel, so that its weights cost nothing: s = the range.
    """
    w, bias, following = first.inputs[1], first.inputs[2], second.inputs[1]
    depthwise = _is_depthwise(second)
    reading = _ranges(arrays[following], 0 if depthwise else 1)
    used = (activation > 0) & (reading > 0)
    if not used.any():
        return
    wanted = np.where(used, activation, 1.0)
    if not depthwise:
        wanted = np.sqrt(wanted / np.where(used, reading, 1.0))
    wanted = wanted / wanted[used].max()
    s = np.where(used, np.clip(wanted, 1 / _LIMIT, 1.0), 1.0)
    arrays[w] = arrays[w] / _along(s, 0, w)
    arrays[bias] = arrays[bias] / s
    arrays[following] = arrays[following] * _along(s, 0 if depthwise else 1, following)


def _ranges(array: Array, axis: int) -> Array:
    others = tuple(i for i in range(array.ndim) if i != axis)
    return np.abs(array.astype(np.float64)).max(axis=others)


def _along(factors: Array, axis: int, value: Value) -> Array:
    return factors.reshape([-1 if i == axis else 1 for i in range(value.type.rank)])

"""Rates of layers on one scale, to train a whole network off the device.

With its batch normalisation folded into the weights, the gradients of a network's layers differ by
many orders of magnitude, and no single rate of SGD suits them. Here each tensor's steps are made
relative to what it holds, as in Y. You et al., "Large batch training of convolutional networks"
(2017), but once, before training: at a learning rate of 0.001 a typical step moves the weights by a
thousandth of their size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..ir.dtypes import Array
from ..ir.graph import Graph, Node, Value
from ..ops._gradient import channel_scales
from .scheme import SchemeError
from .simulate import Encoded, Trainer
from .variations import Variation

_RATE = 1e-9  # a step so small that it is a gradient
_BIAS = 64.0  # units of the output that count as the size of a bias: a quarter of its range
_COEFFICIENT = {"weight_update": (5, 4), "bias_update": (4, 3)}  # op: what it updates, its factor


@dataclass
class _Squares:
    """Sums of the squared steps of a layer's weights and bias, in real numbers at rate 1."""

    weights: float = 0.0
    bias: float = 0.0


def balanced(graph: Graph, samples: Sequence[Encoded], givens: Sequence[Array | int]) -> Graph:
    """The training graph with other coefficients of its updates.

    samples, givens: some that are typical, as `Trainer.step` takes them; encoded by a Trainer of
    this graph. A tensor that none of them gives a gradient does not learn.

    Raises SchemeError for a scheme with momentum or batches.
    """
    trainer = Trainer(graph, Variation(numbers="float32"))
    layers = [n for n in graph.nodes if n.op.name == "conv2d_trainable"]
    squares = {n: _Squares() for n in layers}
    start, kept = dict(trainer.state), trainer.snapshot()
    for sample, given in zip(samples, givens, strict=True):
        trainer.step(sample, given, _RATE)
        for node in layers:
            _add(squares[node], node, start, trainer.state)
        trainer.restore(kept)
    factors: dict[Value, float] = {}
    for node, sums in squares.items():
        scales, output = channel_scales(node.inputs[1]), node.y.scale
        trained, bias = node.inputs[2:4]
        if trained in start:
            weights = float(((start[trained].T * scales) ** 2).mean())
            factors[trained] = _ratio(weights, sums.weights / len(samples))
        if bias in start and node.attrs.train_bias:
            factors[bias] = _ratio((_BIAS * output) ** 2, sums.bias / len(samples))
    return _scaled(graph, factors)


def _add(
    sums: _Squares, node: Node, start: Mapping[Value, Array], after: Mapping[Value, Array]
) -> None:
    scales = channel_scales(node.inputs[1])
    trained, bias = node.inputs[2:4]
    folded = np.zeros(len(scales))
    if trained in start:
        step = (after[trained] - start[trained]) / _RATE
        sums.weights += float(((step.T * scales) ** 2).mean())
        folded = step.sum(axis=(1, 2, 3)) * node.x.zero_point
    if bias in start:
        step = (after[bias] - start[bias]) / _RATE + folded
        sums.bias += float(((step * scales * node.x.scale) ** 2).mean())


def _ratio(size: float, step: float) -> float:
    return float(np.sqrt(size / step)) if step > 0 else 0.0


def _scaled(graph: Graph, factors: Mapping[Value, float]) -> Graph:
    """The coefficients times the factors of what they update."""
    changed, last, missing = dict(graph.initializers), dict[Value, Value](), set(factors)
    for node in graph.nodes:
        if node.op.name not in _COEFFICIENT:
            continue
        updated, factor = (node.inputs[i] for i in _COEFFICIENT[node.op.name])
        state = last.get(updated, updated)
        if node.op.name == "weight_update":
            last[node.outputs[1]] = node.inputs[6]  # the bias, which has z_x folded in
        changed[factor] = (changed[factor] * np.float64(factors[state])).astype(np.float32)
        missing.discard(state)
    if missing:
        raise SchemeError(
            "off the device every sample is a step of its own",
            expected="a scheme without momentum and batches",
        )
    return replace(graph, initializers=changed)

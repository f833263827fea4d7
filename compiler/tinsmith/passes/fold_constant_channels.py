"""Remove the channels of an int8 network that can only take one value, or that nobody reads.

Exact, not pruning: interval analysis with the real weights proves what every channel can be
(`_channel_ranges`); what a constant channel adds to its readers goes into their biases, and a
channel that no reader needs (`_channel_liveness`) is not computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..ir.dtypes import Array, Quant
from ..ir.graph import Graph, Node, Stage, Value
from ..ir.rewrite import Rewriter
from ..pass_manager import Pass, PassContext
from ._channel_liveness import live_channels, mixes_channels
from ._channel_ranges import PAIRWISE, WEIGHTED, ChannelRange, channel_ranges

NAME = "fold_constant_channels"


@dataclass(frozen=True)
class RemovedChannels:
    """What the pass took out: channels over all weighted layers, their MACs, bytes of weights."""

    channels: int
    macs: int
    weight_bytes: int


def run(graph: Graph, context: PassContext) -> Graph:
    if not context.options.get(NAME, True) or graph.updates:
        return graph
    ranges = channel_ranges(graph)
    kept = live_channels(graph, ranges)
    if all(k.all() for k in kept.values()):
        return graph
    shrunk = _Shrink(graph, ranges, kept).run()
    context.facts[NAME] = RemovedChannels(
        sum(int((~kept[n.outputs[0]]).sum()) for n in _weighted(graph) if n.outputs[0] in kept),
        _macs(graph) - _macs(shrunk),
        _weight_bytes(graph) - _weight_bytes(shrunk),
    )
    return shrunk


class _Shrink:
    """Rebuilds the graph with the kept channels only."""

    def __init__(
        self, graph: Graph, ranges: Mapping[Value, ChannelRange], kept: Mapping[Value, Array]
    ) -> None:
        self.graph, self.ranges, self.kept = graph, ranges, kept
        self.rewriter = Rewriter(graph, NAME)

    def run(self) -> Graph:
        for node in self.graph.nodes:
            touched = [v for v in (*self.graph.activations(node), *node.outputs) if self._cut(v)]
            if touched:
                self._node(node)
            else:
                self.rewriter.keep(node)
        return self.rewriter.finish()

    def _cut(self, value: Value) -> bool:
        return value in self.kept and not self.kept[value].all()

    def _node(self, node: Node) -> None:
        if node.op.name in WEIGHTED:
            inputs, attrs = self._weighted(node)
        else:
            inputs, attrs = [self._operand(v, node) for v in node.inputs], node.attrs
        outputs = tuple(self._shrunk(v) for v in node.outputs)
        if node.op.name == "reshape":
            attrs = replace(attrs, shape=outputs[0].type.shape)
        self.rewriter.emit(node.op, inputs, attrs, origin=node.origin, outputs=outputs)
        for old, new in zip(node.outputs, outputs, strict=True):
            self.rewriter.rename(old, new)

    def _shrunk(self, value: Value) -> Value:
        """The same name over fewer channels."""
        if not self._cut(value):
            return value
        shape = (*value.type.shape[:-1], int(self.kept[value].sum()))
        return Value(value.name, value.type.with_shape(shape))

    def _operand(self, value: Value, node: Node) -> Value:
        """An activation, or a constant with one element per channel cut like the output."""
        keep = self.kept.get(node.outputs[0])
        if (
            keep is None
            or value not in self.graph.initializers
            or node.op.name not in PAIRWISE
            or not value.type.rank
            or value.type.shape[-1] != keep.size
        ):
            return value
        return self._constant(value, self.graph.constant(value)[..., keep])

    def _weighted(self, node: Node) -> tuple[list[Value], Any]:
        x, w, *others = node.inputs
        weights = self.graph.constant(w)
        outs = self.kept.get(node.outputs[0], np.ones(weights.shape[0], bool))
        bias, multiplier, shift = (self.graph.constant(v) for v in others)
        attrs = node.attrs
        if mixes_channels(node):
            ins = self.kept.get(x, np.ones(weights.shape[-1], bool))
            bias = bias.astype(np.int64) + self._folded(node, weights, ~ins)
            weights = weights[..., ins]
        else:
            attrs = replace(attrs, groups=int(outs.sum()))
        arrays = [weights[outs], bias.astype(np.int32)[outs], multiplier[outs], shift[outs]]
        values = zip((w, *others), arrays, strict=True)
        return [x, *(self._constant(v, a, outs) for v, a in values)], attrs

    def _folded(self, node: Node, weights: Array, removed: Array) -> Array:
        """int64 [O]: what the removed channels, each of one value, add to every sum."""
        x = self.ranges[node.inputs[0]]
        value = np.where(removed & x.constant, x.low - node.x.zero_point, 0)
        return (weights.astype(np.int64) * value).reshape(weights.shape[0], -1).sum(axis=1)

    def _constant(self, value: Value, array: Array, outs: Array | None = None) -> Value:
        quant = value.type.quant
        if quant is not None and quant.axis == 0 and outs is not None and len(quant.scale) > 1:
            rows = np.flatnonzero(outs).tolist()
            quant = Quant(
                tuple(quant.scale[i] for i in rows), tuple(quant.zero_point[i] for i in rows), 0
            )
        return self.rewriter.constant(f"{value.name}.live", np.ascontiguousarray(array), quant)


def _weighted(graph: Graph) -> list[Node]:
    return [n for n in graph.nodes if n.op.name in WEIGHTED]


def _macs(graph: Graph) -> int:
    return sum(n.op.macs(n) for n in graph.nodes)


def _weight_bytes(graph: Graph) -> int:
    return sum(n.inputs[1].type.elements for n in _weighted(graph))


PASS = Pass(NAME, run, Stage.QUANTIZED)

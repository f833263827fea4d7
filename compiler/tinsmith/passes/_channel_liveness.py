"""Which channels of every activation somebody needs.

Values whose channels must stay the same ones (in and out of a depthwise convolution, a pool, an
addition) are tied: they lose a channel together or not at all. A channel is needed when an output
of the graph has it, when an operator that mixes channels reads it with a weight that is not zero,
or when a value that it helps to compute is needed. A reader that can take in a channel of one value
as part of its bias does not need it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from networkx.utils import UnionFind

from ..ir.dtypes import Array, DType
from ..ir.graph import Graph, Node, Value
from ._channel_ranges import PAIRWISE, ChannelRange

_TOGETHER = 4  # kernels take four channels at a time
_SPATIAL = ("average_pool", "max_pool", "resize")


def live_channels(graph: Graph, ranges: Mapping[Value, ChannelRange]) -> Mapping[Value, Array]:
    """bool [C] of every int8 activation with channels, at least one of them.

    Channel counts that were a multiple of four stay one.
    """
    ties: UnionFind[Value] = UnionFind()
    whole: set[Value] = set(graph.outputs) | set(graph.inputs)
    mixing: list[Node] = []
    for node in graph.nodes:
        if mixes_channels(node):
            mixing.append(node)
            continue
        tied = tied_values(node, graph)
        if tied:
            ties.union(*tied)
        else:
            whole |= set(graph.activations(node)) | set(node.outputs)
    return _spread(graph, ranges, ties, whole, mixing)


def _spread(
    graph: Graph,
    ranges: Mapping[Value, ChannelRange],
    ties: UnionFind[Value],
    whole: set[Value],
    mixing: list[Node],
) -> Mapping[Value, Array]:
    """The least set of live channels that is closed under what readers need."""
    values = [v for v in ranges if v.type.rank]
    live = {ties[v]: np.zeros(v.type.shape[-1], bool) for v in values}
    for value in whole:
        if value in ranges and value.type.rank:
            live[ties[value]][:] = True
    growing = True
    while growing:
        growing = False
        for node in reversed(mixing):
            x, y = live[ties[node.inputs[0]]], live[ties[node.outputs[0]]]
            wanted = reads(node, graph, ranges[node.inputs[0]], y)
            growing |= bool(np.any(wanted & ~x))
            x |= wanted
        if not growing:  # what is kept beyond need, in turn, needs what it reads
            growing = any(_round_up(channels) for channels in live.values())
    return {v: live[ties[v]] for v in values}


def _round_up(live: Array) -> bool:
    """Let enough channels live for a tensor that is not empty, nor worse aligned than it was."""
    together = _TOGETHER if live.size % _TOGETHER == 0 else 1
    missing = together - int(live.sum()) if not live.any() else -int(live.sum()) % together
    live[np.flatnonzero(~live)[:missing]] = True
    return missing > 0


def mixes_channels(node: Node) -> bool:
    """dense, and convolution in one group: every output may read every input channel."""
    if not node.is_integer or len(node.inputs) != 5:
        return False
    return node.op.name == "dense" or (node.op.name == "conv2d" and node.attrs.groups == 1)


def reads(node: Node, graph: Graph, x: ChannelRange, live: Array) -> Array:
    """bool [C_in]: what the live outputs of a mixing node need of its input."""
    w = graph.constant(node.inputs[1])[live]
    used = w.reshape(-1, w.shape[-1]).any(axis=0)
    return used & ~folds(node, x)


def folds(node: Node, x: ChannelRange) -> Array:
    """bool [C_in]: the channels of one value that a mixing node can take into its bias.

    In the border an input counts as its zero point, so there another value would not be constant.
    """
    padded = node.op.name == "conv2d" and any(node.attrs.pads)
    return x.constant & (x.low == node.x.zero_point) if padded else x.constant


def tied_values(node: Node, graph: Graph) -> tuple[Value, ...]:
    """The activations of a node that works on each channel alone; none where it does not."""
    values = (*graph.activations(node), *node.outputs)
    if any(v.type.dtype is not DType.INT8 or not v.type.rank for v in values):
        return ()
    if len({v.type.shape[-1] for v in values}) != 1:
        return ()
    channels = node.y.shape[-1]
    match node.op.name:
        case "conv2d":
            alone = node.attrs.groups == channels and node.inputs[1].type.shape[-1] == 1
        case "reduce_mean":
            alone = node.x.rank - 1 not in node.attrs.axes
        case "lookup" | "reshape":
            alone = True
        case "pad":
            alone = node.x.rank - 1 not in node.attrs.axes
        case name if name in _SPATIAL:
            alone = node.attrs.layout == "NHWC"
        case name if name in PAIRWISE:
            constants = [v for v in node.inputs if v in graph.initializers]
            alone = all(not v.type.rank or v.type.shape[-1] in (1, channels) for v in constants)
        case _:
            alone = False
    return values if alone and channels > 1 else ()

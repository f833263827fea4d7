"""What every channel of an int8 activation can be, proven from the actual weights.

The channel axis is the last one. Operators that are monotone in their input, which all but the
weighted ones are, are asked for their own integer reference at both ends of the range.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..ir.dtypes import Array, DType
from ..ir.graph import Graph, Node, Value
from ..ir.opdef import Absent
from ..quant.arithmetic import accumulator_bounds, requantize, saturate

WEIGHTED = ("conv2d", "dense")
_MONOTONE = ("average_pool", "max_pool", "reduce_mean", "resize", "slice", "pad")
PAIRWISE = ("add", "sub", "mul")  # monotone in each operand, up or down


@dataclass(frozen=True)
class ChannelRange:
    """low, high: int64 [C], both reached or not; `constant` where they are equal."""

    low: Array
    high: Array

    @property
    def constant(self) -> Array:
        """bool [C]."""
        return self.low == self.high


def channel_ranges(graph: Graph) -> Mapping[Value, ChannelRange]:
    """Of every int8 activation; where nothing is known, the whole of int8."""
    ranges = {v: _whole(v) for v in graph.inputs if v.type.dtype is DType.INT8}
    for node in graph.nodes:
        found = _of(node, graph, ranges)
        for i, value in enumerate(node.outputs):
            if value.type.dtype is DType.INT8:
                ranges[value] = found if found is not None and i == 0 else _whole(value)
    return ranges


def _whole(value: Value) -> ChannelRange:
    channels = value.type.shape[-1] if value.type.rank else 1
    return ChannelRange(np.full(channels, -128, np.int64), np.full(channels, 127, np.int64))


def _of(node: Node, graph: Graph, ranges: Mapping[Value, ChannelRange]) -> ChannelRange | None:
    """The range of the first output; None: unknown."""
    x = ranges.get(node.inputs[0])
    if x is None or isinstance(node.op.integer, Absent) or node.y.dtype is not DType.INT8:
        return None
    if node.op.name in WEIGHTED:
        return _weighted(node, graph, x)
    if node.op.name == "lookup":
        return _looked_up(x, graph.constant(node.inputs[1]))
    if node.op.name == "reshape":
        return x if node.x.shape[-1] == node.y.shape[-1] else None
    if node.op.name in (*PAIRWISE, *_MONOTONE):
        return _at_corners(node, graph, ranges)
    return None


def _weighted(node: Node, graph: Graph, x: ChannelRange) -> ChannelRange:
    """Through the accumulator: Σ w·(x − z) + bias, where a tap in the border adds nothing."""
    w, bias, multiplier, shift = (graph.constant(v) for v in node.inputs[1:])
    zero_point = node.x.zero_point
    low, high = x.low, x.high
    if node.op.name == "conv2d":
        if any(node.attrs.pads):
            low, high = np.minimum(low, zero_point), np.maximum(high, zero_point)
        groups = node.attrs.groups
        rows = [
            accumulator_bounds(part, b, lo, hi, zero_point)
            for part, b, lo, hi in zip(
                np.split(w, groups),
                np.split(bias, groups),
                np.split(low, groups),
                np.split(high, groups),
                strict=True,
            )
        ]
        bounds = tuple(np.concatenate(ends) for ends in zip(*rows, strict=True))
    else:
        bounds = accumulator_bounds(w, bias, low, high, zero_point)
    return ChannelRange(
        *(
            saturate(requantize(b, multiplier, shift) + node.y.zero_point, *node.attrs.q_clamp)
            .astype(np.int64)
            for b in bounds
        )
    )  # fmt: skip


def _looked_up(x: ChannelRange, table: Array) -> ChannelRange:
    """Over all entries that an index in the range can meet."""
    values = table.astype(np.int64)
    ends = [values[lo + 128 : hi + 129] for lo, hi in zip(x.low, x.high, strict=True)]
    return ChannelRange(np.array([e.min() for e in ends]), np.array([e.max() for e in ends]))


def _at_corners(
    node: Node, graph: Graph, ranges: Mapping[Value, ChannelRange]
) -> ChannelRange | None:
    """The reference at every combination of the ends of its activations."""
    assert not isinstance(node.op.integer, Absent)
    reference = node.op.integer.reference
    choices: list[list[Array]] = []
    for value in node.inputs:
        if value in graph.initializers:
            choices.append([graph.constant(value)])
        elif value in ranges:
            r = ranges[value]
            choices.append([_filled(value, end) for end in (r.low, r.high)])
        else:
            return None
    if isinstance(reference, Absent):
        return None
    results = [reference(node, arrays)[0] for arrays in itertools.product(*choices)]
    whole = np.stack([r.reshape(-1, r.shape[-1]) for r in results]).astype(np.int64)
    return ChannelRange(whole.min(axis=(0, 1)), whole.max(axis=(0, 1)))


def _filled(value: Value, ends: Array) -> Array:
    return np.broadcast_to(ends.astype(np.int8), value.type.shape)

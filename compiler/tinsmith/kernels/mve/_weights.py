"""Channel constants of the MVE kernels, and the channel order that narrowing leaves in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...ir.dtypes import Array
from ...ir.graph import Graph, Node
from ...quant.arithmetic import INT32_MAX, accumulator_bounds
from ..packing import pad_axis
from ._uniform import uniform

FEATURES = frozenset({"mve"})
MIN_SHIFT = 32
MAX_SHIFT = 62


@dataclass(frozen=True)
class Channels:
    """int32 arrays per output channel: folded bias, multiplier, and −(n − 31) for VRSHL.

    scale_up: left shift of the accumulators that brings every n to at least 32.
    """

    bias: Array
    multiplier: Array
    shift: Array
    scale_up: int


def channels(node: Node, graph: Graph) -> Channels | None:
    """Of a lowered conv2d or dense node; None when an accumulator does not fit the form."""
    w, bias, multiplier, shift = (graph.constant(v).astype(np.int64) for v in node.inputs[1:5])
    low, high = accumulator_bounds(w, bias, -128, 127, node.x.zero_point)
    folded = bias - node.x.zero_point * w.sum(tuple(range(1, w.ndim)))
    n = np.where(multiplier == 0, MIN_SHIFT, 31 - shift)
    scale_up = max(0, MIN_SHIFT - int(n.min()))
    reach = np.maximum(np.abs(low), np.abs(high)) << scale_up
    if int(np.abs(folded).max()) > INT32_MAX or int(reach.max()) > INT32_MAX:
        return None
    if int(n.max()) + scale_up > MAX_SHIFT:
        return None
    return Channels(
        folded.astype(np.int32),
        multiplier.astype(np.int32),
        (31 - n - scale_up).astype(np.int32),
        scale_up,
    )


def bound_channels(node: Node, graph: Graph) -> Channels:
    """As `channels`, where `applies` has promised them."""
    found = channels(node, graph)
    assert found is not None, "applies() promised"
    return found


@dataclass(frozen=True)
class Rescaling:
    """int32 arrays per output channel: folded bias; the multiplier, and the shift where channels
    differ in it. facts: what the macros of epilogue.j2 see."""

    bias: Array
    scales: tuple[Array, ...]
    facts: Mapping[str, Any]

    def padded(self, multiple: int) -> Rescaling:
        """With channels of zeros up to a multiple."""
        bias, *scales = (pad_axis(a, 0, multiple) for a in (self.bias, *self.scales))
        return Rescaling(bias, tuple(scales), self.facts)

    def scales_of(self, some: Sequence[int]) -> list[Array]:
        """One array after the other."""
        return [a[list(some)] for a in self.scales]


def rescaling(node: Node, graph: Graph) -> Rescaling:
    """Of a node that has `channels`: one shift for all of them where that is exact."""
    c = bound_channels(node, graph)
    facts = {"y_zero_point": node.y.zero_point, "scale_up": c.scale_up}
    found = uniform(node, graph)
    if found is None:
        none = {"uniform": False, "offset": 0, "first": 0, "second": 0}
        return Rescaling(c.bias, (c.multiplier, c.shift), {**facts, **none})
    shared = {"offset": found.offset, "first": found.first, "second": found.second}
    facts |= {"uniform": True, "scale_up": 0, **shared}
    bias = (c.bias.astype(np.int64) + found.move).astype(np.int32)
    return Rescaling(bias, (found.multiplier,), facts)


def channel_groups(count: int) -> list[list[int]]:
    """Output channels in the order they are computed, four at a time; `count` a multiple of 4.

    Narrowing 32 → 16 → 8 bits writes even, then odd lanes, so that 16 channels that are computed
    in the order 0,4,8,12 · 2,6,… · 1,5,… · 3,7,… lie in memory in their natural order; 8 likewise.
    """
    groups: list[list[int]] = []
    base = 0
    for block in [16] * (count // 16) + [8] * (count % 16 // 8) + [4] * (count % 8 // 4):
        step = block // 4
        order = {16: (0, 2, 1, 3), 8: (0, 1), 4: (0,)}[block]
        groups += [[base + step * i + o for i in range(4)] for o in order]
        base += block
    return groups

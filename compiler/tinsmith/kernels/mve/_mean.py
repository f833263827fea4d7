"""Requantising sums whose channels share their scales: VQDMULH, then VRSHL by at least one."""

from __future__ import annotations

import numpy as np

from ...ir.graph import Graph, Node
from ...quant.arithmetic import INT32_MAX

_LEAST_SHIFT = -31


def scale_up(node: Node, graph: Graph, bound: int) -> int | None:
    """The left shift that leaves every shift of the node to the right, see mean.j2; None where a
    sum of up to `bound` would not fit int32 then, or a shift is too far."""
    shift = graph.constant(node.inputs[2]).astype(np.int64)
    up = max(0, int(shift.max()) + 1)
    fits = bound << up <= INT32_MAX and int(shift.min()) - up >= _LEAST_SHIFT
    return up if fits else None

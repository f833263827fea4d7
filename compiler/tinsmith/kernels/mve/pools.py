"""Average pooling, eight channels at a time in int16 lanes, and max pooling, 16 at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ...ir.graph import Graph, Node
from ...ops._pool import taps_inside
from ..kernel import Kernel
from ..packing import unroll
from ..portable import average_pool, max_pool
from ..portable._pool import lead_bytes, pool_view
from ._mean import scale_up
from ._weights import FEATURES

_MOST_AT_ONCE = 3  # groups of 16 channels of a window written out
_MOST_TAPS = 128  # whose differences of int8 and a zero point fit an int16 lane


def _bound(node: Node) -> int:
    return 255 * int(np.prod(node.attrs.kernel))


def _average_applies(node: Node, graph: Graph) -> bool:
    few = int(np.prod(node.attrs.kernel)) <= _MOST_TAPS
    return few and scale_up(node, graph, _bound(node)) is not None


def _average_view(node: Node, graph: Graph) -> Mapping[str, Any]:
    up = scale_up(node, graph, _bound(node))
    assert up is not None, "applies() promised"
    return {**average_pool.view(node, graph), "lanes": 8, "up": up}


def _max_view(node: Node, graph: Graph) -> Mapping[str, Any]:
    facts, groups = max_pool.view(node, graph), -(-node.y.shape[3] // 16)
    cut = node.y.shape[3] % 16 > 0
    at_once = unroll(groups, _MOST_AT_ONCE) if not cut else groups
    at_once = at_once if at_once <= _MOST_AT_ONCE else 0
    return {**facts, "lanes": 16, "at_once": at_once, "turns": groups // at_once if at_once else 0}


def _instructions(lanes: int, whole: float, loops: float) -> Callable[[Node, Graph], float]:
    """Of a group of channels, beside its taps: of a window in one piece, of one in loops."""

    def instructions(node: Node, graph: Graph) -> float:
        del graph
        facts = pool_view(node)
        (rows, columns), channels = taps_inside(node), node.y.shape[3]
        clips, cut = facts["clip_h"] or facts["clip_w"], channels % lanes > 0
        size = facts["kernel_h"] * facts["kernel_w"]
        windows = np.outer(rows, columns)
        unrolled = windows == size if facts["offsets"] else np.zeros(windows.shape, bool)
        lines = (windows > 0) * rows[:, None] * (10.0 if clips else 2.0)
        looped = (4.0 + 0.5 * (clips or cut)) * windows + lines + loops
        looped += 4 * cut
        each = np.where(unrolled, 2.0 * size + whole, looped)
        outside = 40.0 if clips else 6.0
        groups = -(-channels // lanes)
        return float((groups * each + outside).sum()) * node.x.shape[0] + 40.0

    return instructions


KERNELS = (
    Kernel(
        name="average_pool_mve",
        op="average_pool",
        template="targets/arm-mve/kernels/average_pool.c.j2",
        features=FEATURES,
        applies=_average_applies,
        view=_average_view,
        constants=average_pool.constants,
        lead_bytes=lead_bytes,
        instructions=_instructions(8, 19.0, 33.0),
    ),
    Kernel(
        name="max_pool_mve",
        op="max_pool",
        template="targets/arm-mve/kernels/max_pool.c.j2",
        features=FEATURES,
        view=_max_view,
        lead_bytes=lead_bytes,
        instructions=_instructions(16, 4.0, 1.0),
    ),
)

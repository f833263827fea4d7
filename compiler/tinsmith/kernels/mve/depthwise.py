"""Depthwise convolution: one pixel × eight channels per step, any window.

Products are summed in int16 lanes over groups of taps whose Σ|w| ≤ 255, which cannot overflow
(128 · 255 < 2^15), and only then widened into int32 accumulators.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...ir.dtypes import Array
from ...ir.graph import Graph, Node
from ...ops.conv2d import is_depthwise
from ..geometry import clamp_facts, conv_geometry, window_lead
from ..kernel import Constant, Kernel
from ..packing import pad_axis
from ._weights import FEATURES, bound_channels, channels

_MAX_SUM = 255


def _applies(node: Node, graph: Graph) -> bool:
    g = conv_geometry(node)
    return (
        is_depthwise(node)
        and node.x.shape[0] == 1
        and g.in_c == g.out_c
        and channels(node, graph) is not None
    )


def _taps(node: Node, graph: Graph) -> Array:
    """[kernel_h·kernel_w, channels] int8."""
    w = graph.constant(node.inputs[1])
    return w.reshape(w.shape[0], -1).T


def tap_groups(weights: Array) -> list[list[int]]:
    """Consecutive taps whose absolute weights sum to at most 255 in every channel.

    weights: [taps, channels] int8.
    """
    magnitude = np.abs(weights.astype(np.int64))
    groups: list[list[int]] = []
    total = np.zeros(weights.shape[1], np.int64)
    for tap, row in enumerate(magnitude):
        if groups and int((total + row).max()) <= _MAX_SUM:
            groups[-1].append(tap)
            total = total + row
        else:
            groups.append([tap])
            total = row
    return groups


def _view(node: Node, graph: Graph) -> Mapping[str, Any]:
    g = conv_geometry(node)
    return {
        **vars(g),
        "inner_rows": g.inner_rows,
        "inner_columns": g.inner_columns,
        "groups": tap_groups(_taps(node, graph)),
        "scale_up": bound_channels(node, graph).scale_up,
        "stream_type": "int8_t",
        **clamp_facts(node),
    }


def _scratch(node: Node, graph: Graph) -> int:
    del graph
    g = conv_geometry(node)
    return 0 if g.is_inner else g.kernel_h * g.kernel_w * g.in_c


def _constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    """Per eight channels: biases, taps × 8, {multipliers, shifts}: even, then odd channels."""
    c = bound_channels(node, graph)
    taps = pad_axis(_taps(node, graph), 1, 8)
    bias, multiplier, shift = (pad_axis(a, 0, 8) for a in (c.bias, c.multiplier, c.shift))
    stream: list[bytes] = []
    for base in range(0, taps.shape[1], 8):
        even, odd = slice(base, base + 8, 2), slice(base + 1, base + 8, 2)
        parts = [bias[even], bias[odd], taps[:, base : base + 8]]
        parts += [multiplier[even], shift[even], multiplier[odd], shift[odd]]
        stream += [np.ascontiguousarray(p).tobytes() for p in parts]
    return {"stream": Constant(np.frombuffer(b"".join(stream), np.int8), 8)}


def _instructions(node: Node, graph: Graph) -> float:
    g = conv_geometry(node)
    taps = g.kernel_h * g.kernel_w
    groups = len(tap_groups(_taps(node, graph)))
    return g.pixels * (-(-g.in_c // 8) * (5 * taps + 3 * groups + 22) + 10)


KERNELS = (
    Kernel(
        name="depthwise_mve",
        op="conv2d",
        template="targets/arm-mve/kernels/depthwise.c.j2",
        features=FEATURES,
        applies=_applies,
        view=_view,
        constants=_constants,
        scratch_bytes=_scratch,
        lead_bytes=window_lead,
        instructions=_instructions,
    ),
)

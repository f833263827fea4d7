"""Depthwise convolution: one pixel × four channels per step, any window."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...ir.dtypes import Array
from ...ir.graph import Graph, Node
from ...ops.conv2d import is_depthwise
from ..geometry import clamp_facts, conv_geometry, window_lead
from ..kernel import Constant, Kernel
from ..packing import epilogue, words_of_halves
from ._weights import FEATURES, MAX_STORE_OFFSET


def _depthwise_applies(node: Node, graph: Graph) -> bool:
    g = conv_geometry(node)
    reach = (g.kernel_w - 1) * g.dilation_w * g.in_c
    return (
        is_depthwise(node)
        and node.x.shape[0] == 1
        and g.in_c == g.out_c
        and g.in_c % 4 == 0
        and reach <= MAX_STORE_OFFSET
        and epilogue(node, graph) is not None
    )


def _depthwise_view(node: Node, graph: Graph) -> Mapping[str, Any]:
    g = conv_geometry(node)
    constants = epilogue(node, graph)
    assert constants is not None, "applies() promised"
    return {
        **vars(g),
        "inner_rows": g.inner_rows,
        "inner_columns": g.inner_columns,
        "scale_up": constants.scale_up,
        "stream_type": "int32_t",
        **clamp_facts(node),
    }


def _depthwise_scratch(node: Node, graph: Graph) -> int:
    del graph
    g = conv_geometry(node)
    return 0 if g.is_inner else g.kernel_h * g.kernel_w * g.in_c


def _depthwise_constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    """Per four channels: 4 biases; per kernel row the tap pairs {c0..c3}, a last odd tap as
    {c0,c2}, {c1,c3}; then {m, C, s} × 4."""
    constants = epilogue(node, graph)
    assert constants is not None, "applies() promised"
    w = graph.constant(node.inputs[1]).astype(np.int64)[..., 0]
    channels, _, kernel_w = w.shape
    groups = w.reshape(channels // 4, 4, *w.shape[1:])
    columns: list[Array] = []
    for kx in range(0, kernel_w - 1, 2):
        columns.append(words_of_halves(groups[..., kx], groups[..., kx + 1]))
    if kernel_w % 2:
        last = groups[..., -1]
        columns.append(words_of_halves(last[:, 0:2], last[:, 2:4]))
    taps = np.concatenate([c.transpose(0, 2, 1) for c in columns], 2)
    rows = np.stack([constants.multiplier, constants.offset, constants.shift], 1)
    stream = [
        constants.bias.reshape(-1, 4),
        taps.reshape(channels // 4, -1),
        rows.reshape(channels // 4, 12),
    ]
    return {"stream": Constant(np.ravel(np.concatenate(stream, 1)))}


def _depthwise_instructions(node: Node, graph: Graph) -> float:
    del graph
    g = conv_geometry(node)
    per_row = g.kernel_w // 2 * 14 + g.kernel_w % 2 * 8 + 1
    return g.pixels * (g.in_c / 4 * (g.kernel_h * per_row + 30) + 25)


KERNELS = (
    Kernel(
        name="depthwise_dsp",
        op="conv2d",
        template="targets/arm-dsp/kernels/depthwise.c.j2",
        features=FEATURES,
        applies=_depthwise_applies,
        view=_depthwise_view,
        constants=_depthwise_constants,
        scratch_bytes=_depthwise_scratch,
        lead_bytes=window_lead,
        instructions=_depthwise_instructions,
    ),
)

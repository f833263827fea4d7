"""conv2d_input_gradient of a pointwise layer: two pixels × four input channels per block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...ir.graph import Graph, Node, Value
from ..kernel import Constant, Kernel
from ..packing import unroll
from ._weights import FEATURES
from .conv2d_trainable import row_bytes, rows_of

_REACH = 4095  # of a 12-bit offset
_MAX_UNROLL = 8


def _applies(node: Node, graph: Graph) -> bool:
    attrs = node.attrs
    out, kh, kw, _ = node.inputs[2].type.shape
    pointwise = (kh, kw) == attrs.strides == (1, 1) and attrs.pads == (0, 0, 0, 0)
    rows = [row_bytes(node, i, graph) for i in (2, 3)]
    return (
        pointwise
        and attrs.groups == 1
        and node.x.shape[0] == 1
        and 4 * out < 2**16
        and max(rows) <= _REACH
    )


def _part(node: Node, graph: Graph, index: int) -> Mapping[str, Any] | None:
    """One of the two filter arrays; `places`: the input channels of its columns."""
    out, _, _, channels = node.inputs[index].type.shape
    if not channels:
        return None
    attrs = node.attrs
    mixed = node.inputs[5 - index].type.shape[3] > 0
    trained = list(attrs.trained_channels)
    kept = sorted(set(range(attrs.shape[3])) - set(trained))
    row = row_bytes(node, index, graph)
    return {
        "name": "frozen" if index == 2 else "trained",
        "row": row,
        "channels": channels,
        "quads": -(-channels // 4),
        "unroll": unroll(out, min(_MAX_UNROLL, _REACH // row)),
        "places": (kept if index == 2 else trained) if mixed else [],
    }


def _parts(node: Node, graph: Graph) -> list[Mapping[str, Any]]:
    return [p for p in (_part(node, graph, 2), _part(node, graph, 3)) if p is not None]


def _view(node: Node, graph: Graph) -> Mapping[str, Any]:
    _, height, width, in_c = node.y.shape
    return {
        "parts": _parts(node, graph),
        "pixels": height * width,
        "in_c": in_c,
        "out_c": node.x.shape[3],
    }


def _constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    named = {"frozen": node.inputs[2], "trained": node.inputs[3]}
    return {
        name: Constant(np.ravel(rows_of(graph.constant(value))))
        for name, value in named.items()
        if value.type.elements and value not in graph.storage
    }


def _state(node: Node, graph: Graph) -> Mapping[str, Value]:
    named = {"frozen": node.inputs[2], "trained": node.inputs[3]}
    return {k: v for k, v in named.items() if v in graph.storage and v.type.elements}


def _scratch(node: Node, graph: Graph) -> int:
    quads = max(p["quads"] for p in _parts(node, graph))
    return 4 * node.x.shape[3] + 32 * quads


def _lead(node: Node, index: int) -> int | None:
    """Two pixels of g are read whole before their results are written; the exponent first."""
    if index != 0:
        return None
    pairs = -(-node.y.shape[1] * node.y.shape[2] // 2)
    in_c, out_c = node.y.shape[3], node.x.shape[3]
    return max(0, pairs * 2 * (4 * in_c - out_c))


def _instructions(node: Node, graph: Graph) -> float:
    _, height, width, in_c = node.y.shape
    out_c = node.x.shape[3]
    quads = sum(p["quads"] for p in _parts(node, graph))
    return -(-height * width // 2) * (quads * (12.5 * out_c + 25) + 6 * out_c + 14 * in_c)


KERNELS = (
    Kernel(
        name="pointwise_input_gradient_dsp",
        op="conv2d_input_gradient",
        template="targets/arm-dsp/kernels/pointwise_input_gradient.c.j2",
        features=FEATURES,
        applies=_applies,
        view=_view,
        constants=_constants,
        state=_state,
        scratch_bytes=_scratch,
        lead_bytes=_lead,
        instructions=_instructions,
    ),
)

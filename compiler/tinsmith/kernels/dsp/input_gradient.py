"""conv2d_input_gradient of a pointwise layer: four pixels × two input channels per block."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
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
        and out % 4 == 0
        and 8 * out < 2**16
        and 3 * max(rows) <= _REACH
        and 16 * node.y.shape[3] < 2**16
    )


def _is_direct(node: Node) -> bool:
    """The sums of four pixels are made where dx lies, and become floats there."""
    split = node.inputs[2].type.elements and node.inputs[3].type.elements
    return not split and node.y.shape[3] % 2 == 0 and _pixels(node) >= 4


def _pixels(node: Node) -> int:
    return node.y.shape[1] * node.y.shape[2]


def places(node: Node, index: int) -> list[int]:
    """The input channels of the columns of filter array `index`; none if they are all of them."""
    attrs = node.attrs
    if not node.inputs[5 - index].type.shape[3]:
        return []
    trained = list(attrs.trained_channels)
    return sorted(set(range(attrs.shape[3])) - set(trained)) if index == 2 else trained


def _part(node: Node, graph: Graph, index: int) -> Mapping[str, Any] | None:
    """One of the two filter arrays."""
    out, _, _, channels = node.inputs[index].type.shape
    if not channels:
        return None
    row = row_bytes(node, index, graph)
    reach = (_REACH - 3 * row) // (4 * row) + 1
    return {
        "name": "frozen" if index == 2 else "trained",
        "row": row,
        "channels": channels,
        "stride": channels + channels % 2,
        "unroll": unroll(out // 4, min(_MAX_UNROLL, reach)),
        "places": places(node, index),
    }


def _parts(node: Node, graph: Graph) -> list[Mapping[str, Any]]:
    return [p for p in (_part(node, graph, 2), _part(node, graph, 3)) if p is not None]


def _view(node: Node, graph: Graph) -> Mapping[str, Any]:
    return {
        "parts": _parts(node, graph),
        "pixels": _pixels(node),
        "in_c": node.y.shape[3],
        "out_c": node.x.shape[3],
        "direct": _is_direct(node),
        "sums_bytes": _sums_bytes(node),
        "scaled": False,
    }


def _scaled_view(node: Node, graph: Graph) -> Mapping[str, Any]:
    return {**_view(node, graph), "scaled": True}


def frozen_filters(node: Node, graph: Graph) -> Mapping[str, Constant]:
    """In the rows of the forward pass."""
    named = {"frozen": node.inputs[2], "trained": node.inputs[3]}
    return {
        name: Constant(np.ravel(rows_of(graph.constant(value))))
        for name, value in named.items()
        if value.type.elements and value not in graph.storage
    }


def learnt_filters(node: Node, graph: Graph) -> Mapping[str, Value]:
    """Those that are state."""
    named = {"frozen": node.inputs[2], "trained": node.inputs[3]}
    return {k: v for k, v in named.items() if v in graph.storage and v.type.elements}


def _sums_bytes(node: Node) -> int:
    """Of the sums of four pixels that are not made in place, of the larger part."""
    if _is_direct(node) and _pixels(node) % 4 == 0:
        return 0
    channels = max(v.type.shape[3] for v in node.inputs[2:4])
    return 16 * (channels + channels % 2)


def _scratch(node: Node, graph: Graph) -> int:
    del graph
    return 8 * node.x.shape[3] + _sums_bytes(node)


def lead(node: Node, index: int) -> int | None:
    """Four pixels of g are read whole before their results are written; the exponent first."""
    if index != 0:
        return None
    in_c, out_c = node.y.shape[3], node.x.shape[3]
    groups = (_pixels(node) - 1) // 4  # that others follow
    return max(0, groups * 4 * (4 * in_c - out_c))


def _instructions(node: Node, graph: Graph, *, scaled: bool = False) -> float:
    pixels, in_c, out_c = _pixels(node), node.y.shape[3], node.x.shape[3]
    quads = out_c / 4
    pairs = sum(
        (p["channels"] + 1) // 2 * (quads * (31 + 4 / p["unroll"]) + 32)
        for p in _parts(node, graph)
    )
    store = 4 * in_c * (5 if _is_direct(node) else 12)
    if scaled:
        store = 4 * in_c * (3 if _is_direct(node) else 10)
    return -(-pixels // 4) * (pairs + 14 * out_c + store)


_INTEGER_SUMS = Kernel(
    name="pointwise_input_gradient_dsp",
    op="conv2d_input_gradient",
    template="targets/arm-dsp/kernels/pointwise_input_gradient.c.j2",
    features=FEATURES,
    applies=_applies,
    view=_view,
    constants=frozen_filters,
    state=learnt_filters,
    scratch_bytes=_scratch,
    lead_bytes=lead,
    instructions=_instructions,
)

KERNELS = (
    _INTEGER_SUMS,
    replace(
        _INTEGER_SUMS,
        name="pointwise_input_gradient_fpu",
        features=FEATURES | {"fpu"},
        view=_scaled_view,
        instructions=partial(_instructions, scaled=True),
    ),
)

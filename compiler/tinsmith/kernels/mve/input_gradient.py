"""conv2d_input_gradient of a pointwise layer: four pixels × two input channels per block.

A sum runs down a column of the natural filter rows that the forward pass reads; eight rows of it
are gathered at a time, into int16 lanes, for VMLADAVA.S16.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...ir.graph import Graph, Node
from ..dsp.conv2d_trainable import row_bytes
from ..dsp.input_gradient import frozen_filters, lead, learnt_filters, places
from ..kernel import Kernel
from ..packing import unroll
from ._weights import FEATURES

_AT_ONCE = 8  # output channels
_MAX_UNROLL = 4
_MAX_OFFSET = 2**16 - 1  # of a gather's lane; of the place of a channel, bytes
_PARTS = (2, 3)


def _applies(node: Node, graph: Graph) -> bool:
    attrs = node.attrs
    out, kh, kw, _ = node.inputs[2].type.shape
    rows = [row_bytes(node, i, graph) for i in _PARTS]
    return (
        (kh, kw) == attrs.strides == (1, 1)
        and attrs.pads == (0, 0, 0, 0)
        and attrs.groups == 1
        and node.x.shape[0] == 1
        and out % _AT_ONCE == 0
        and all(node.inputs[i].type.shape[3] != 1 for i in _PARTS)
        and (_AT_ONCE - 1) * max(rows) + 1 <= _MAX_OFFSET
        and 4 * node.y.shape[3] <= _MAX_OFFSET
    )


def _pixels(node: Node) -> int:
    return node.y.shape[1] * node.y.shape[2]


def _view(node: Node, graph: Graph) -> Mapping[str, Any]:
    chunks = node.x.shape[3] // _AT_ONCE
    parts = [
        {
            "name": "frozen" if i == 2 else "trained",
            "row": row_bytes(node, i, graph),
            "channels": node.inputs[i].type.shape[3],
            "places": [4 * c for c in places(node, i)],
        }
        for i in _PARTS
        if node.inputs[i].type.elements
    ]
    return {
        "parts": parts,
        "pixels": _pixels(node),
        "in_c": node.y.shape[3],
        "out_c": node.x.shape[3],
        "chunks": chunks,
        "unroll": unroll(chunks, _MAX_UNROLL),
        "scale_up": 0,
    }


def _instructions(node: Node, graph: Graph) -> float:
    del graph
    chunks = node.x.shape[3] / _AT_ONCE
    pairs = (node.y.shape[3] + 1) // 2
    return -(-_pixels(node) // 4) * (pairs * (15.7 * chunks + 34) + 18 * chunks + 100)


KERNELS = (
    Kernel(
        name="pointwise_input_gradient_mve",
        op="conv2d_input_gradient",
        template="targets/arm-mve/kernels/pointwise_input_gradient.c.j2",
        features=FEATURES | {"fpu"},
        applies=_applies,
        view=_view,
        constants=frozen_filters,
        state=learnt_filters,
        scratch_bytes=lambda node, graph: 4 * node.x.shape[3],
        lead_bytes=lead,
        instructions=_instructions,
    ),
)

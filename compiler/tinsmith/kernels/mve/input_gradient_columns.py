"""conv2d_input_gradient of a pointwise layer: two pixels × four input channels per block.

A sum runs down a column of the natural filter rows. Some columns at a time are turned into rows, in
scratch, where all pixels meet them; so g has to stay until the last of dx is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...ir.graph import Graph, Node
from ...ops._convolution import is_pointwise
from ..dsp.conv2d_trainable import row_bytes
from ..dsp.input_gradient import frozen_filters, learnt_filters, places
from ..kernel import Kernel
from ..packing import unroll
from ._weights import FEATURES

_VECTOR = 16
_WIDTHS = (16, 8, 4)  # columns that are turned at a time
_MOST_BYTES = 4096
_MAX_UNROLL = 4
_MAX_OFFSET = 2**16 - 1  # of the place of a channel, bytes
_PARTS = (2, 3)


def _vectors(node: Node) -> int:
    return -(-node.x.shape[3] // _VECTOR)


def _columns(node: Node) -> int:
    """The most that fit the scratch; 0 where four do not."""
    most = max(node.inputs[i].type.shape[3] for i in _PARTS)
    fitting = [n for n in _WIDTHS if n * _VECTOR * _vectors(node) <= _MOST_BYTES]
    wanted = [n for n in fitting if n < most + 4]  # no wider than the columns there are
    return max(wanted or fitting, default=0)


def _applies(node: Node, graph: Graph) -> bool:
    del graph
    attrs = node.attrs
    _, kh, kw, _ = node.inputs[2].type.shape
    return (
        is_pointwise((kh, kw), attrs)
        and attrs.strides == (1, 1)
        and node.x.shape[0] == 1
        and 4 * node.y.shape[3] <= _MAX_OFFSET
        and _columns(node) > 0
    )


def _pixels(node: Node) -> int:
    return node.y.shape[1] * node.y.shape[2]


def _view(node: Node, graph: Graph) -> Mapping[str, Any]:
    out_c, pixels = node.x.shape[3], _pixels(node)
    whole = out_c // _VECTOR
    parts: list[dict[str, Any]] = [
        {
            "name": "frozen" if i == 2 else "trained",
            "row": row_bytes(node, i, graph),
            "channels": node.inputs[i].type.shape[3],
            "places": [4 * c for c in places(node, i)] + [0] * 3,
        }
        for i in _PARTS
        if node.inputs[i].type.elements
    ]
    return {
        "parts": parts,
        "pixels": pixels,
        "pairs": -(-pixels // 2),
        "second": out_c if pixels > 1 else 0,
        "in_c": node.y.shape[3],
        "out_c": out_c,
        "vectors": _vectors(node),
        "chunks": whole,
        "unroll": unroll(whole, _MAX_UNROLL) if whole else 0,
        "tail": out_c % _VECTOR,
        "columns": _columns(node),
        "masked": any(p["channels"] % 4 for p in parts),
        "scale_up": 0,
    }


def _scratch(node: Node, graph: Graph) -> int:
    del graph
    return _columns(node) * _VECTOR * _vectors(node)


def _instructions(node: Node, graph: Graph) -> float:
    v = _view(node, graph)
    rounds = v["chunks"] // v["unroll"] if v["unroll"] else 0
    loops = 0 if rounds == 1 else 9 + 2 * rounds
    pair = 14 * v["vectors"] + loops + 19 + 2 * v["masked"] + (6 if v["tail"] else 0)
    total = 60.0
    for p in v["parts"]:
        fours, turns = -(-p["channels"] // 4), -(-p["channels"] // v["columns"])
        total += fours * (v["pairs"] * pair + 40) + turns * (5 * v["out_c"] + 8 * v["vectors"] + 25)
    return total


KERNELS = (
    Kernel(
        name="pointwise_gradient_columns_mve",
        op="conv2d_input_gradient",
        template="targets/arm-mve/kernels/pointwise_gradient_columns.c.j2",
        features=FEATURES | {"fpu"},
        applies=_applies,
        view=_view,
        constants=frozen_filters,
        state=learnt_filters,
        scratch_bytes=_scratch,
        instructions=_instructions,
    ),
)

"""Pointwise conv2d_trainable: four pixels × two channels per block, filters in natural rows.

Frozen and trained input channels are two parts of one sum, whose rows the backward pass and the
updates read, too. Four pixels at a time are copied in the order of the columns, 16 bytes of each in
turn, so that the rest of a row meets what a predicated load leaves of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...ir.dtypes import Array
from ...ir.graph import Graph, Node
from ..dsp.conv2d_trainable import filters_and_bias, learnt_state, row_bytes
from ..geometry import clamp_facts, conv_geometry, window_lead
from ..kernel import Constant, Kernel
from ..packing import unroll
from ._weights import FEATURES, MAX_SHIFT, MIN_SHIFT

_AT_ONCE = 4  # pixels
_MAX_UNROLL = 6
_MAX_OFFSET = 2**16 - 1  # of a gather's and a scatter's lane


def rescaling_rows(node: Node, graph: Graph) -> Array | None:
    """int32 [O, 2]: multiplier, and −(n − 31) for VRSHL, which rounds as the rule does from n = 32
    on. Sums of layers that learn fit int32 whatever they learn."""
    multiplier, shift = (graph.constant(v).astype(np.int64) for v in node.inputs[4:6])
    n = np.where(multiplier == 0, MIN_SHIFT, 31 - shift)
    if int(n.min()) < MIN_SHIFT or int(n.max()) > MAX_SHIFT:
        return None
    return np.stack([multiplier, 31 - n], 1).astype(np.int32)


def _applies(node: Node, graph: Graph) -> bool:
    g = conv_geometry(node)
    return (
        node.attrs.groups == 1
        and node.x.shape[0] == 1
        and g.is_pointwise
        and node.inputs[1].type.shape[1:3] == (1, 1)
        and g.out_c % 2 == 0
        and 3 * g.out_c + 1 <= _MAX_OFFSET
        and g.in_c <= _MAX_OFFSET
        and rescaling_rows(node, graph) is not None
    )


def _part(node: Node, index: int, graph: Graph) -> Mapping[str, Any] | None:
    channels = node.inputs[index].type.shape[3]
    if not channels:
        return None
    return {
        "name": "frozen" if index == 1 else "trained",
        "row": row_bytes(node, index, graph),
        "chunks": channels // 16,
        "unroll": unroll(channels // 16, _MAX_UNROLL) if channels >= 16 else 0,
        "tail": channels % 16,
    }


def _columns(node: Node) -> list[list[int]]:
    """The input channels of both parts, where there are two."""
    trained = list(node.attrs.trained_channels)
    kept = sorted(set(range(node.x.shape[3])) - set(trained))
    return [part for part in (kept, trained) if part]


def _vectors(node: Node) -> int:
    """Of 16 columns, of a pixel."""
    return sum(-(-len(part) // 16) for part in _columns(node))


def _view(node: Node, graph: Graph) -> Mapping[str, Any]:
    g = conv_geometry(node)
    columns = _columns(node)
    parts = [p for p in (_part(node, 1, graph), _part(node, 2, graph)) if p is not None]
    order = [c for part in columns for c in part + [0] * (-len(part) % 16)]
    return {
        **vars(g),
        "pixels": g.pixels,
        "parts": parts,
        "vectors": _vectors(node),
        "order": order if len(columns) > 1 else [],
        "uniform": False,
        "scale_up": 0,
        **clamp_facts(node),
    }


def _scratch(node: Node, graph: Graph) -> int:
    del graph
    g = conv_geometry(node)
    tail = _AT_ONCE * g.out_c if g.pixels % _AT_ONCE else 0
    return 16 * _AT_ONCE * _vectors(node) + tail


def _constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    rows = rescaling_rows(node, graph)
    assert rows is not None, "applies() promised"
    return {**filters_and_bias(node, graph), "rows": Constant(np.ravel(rows))}


def _instructions(node: Node, graph: Graph) -> float:
    del graph
    g = conv_geometry(node)
    vectors = _vectors(node)
    block = g.out_c / 2 * (14.5 * vectors + 42) + 30
    return -(-g.pixels // _AT_ONCE) * (block + vectors * (14 if len(_columns(node)) == 1 else 30))


KERNELS = (
    Kernel(
        name="conv2d_trainable_mve",
        op="conv2d_trainable",
        template="targets/arm-mve/kernels/conv2d_trainable.c.j2",
        features=FEATURES,
        applies=_applies,
        view=_view,
        constants=_constants,
        state=learnt_state,
        scratch_bytes=_scratch,
        lead_bytes=window_lead,
        instructions=_instructions,
    ),
)

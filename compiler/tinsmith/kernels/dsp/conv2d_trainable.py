"""conv2d_trainable (groups = 1): four pixels × two channels per block, filters in natural rows.

Frozen and trained input channels are two parts of one sum. Their rows stay as the backward pass and
the updates use them, so nothing is packed twice in flash nor repacked after a step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...ir.dtypes import Array
from ...ir.graph import Graph, Node, Value
from ..geometry import Geometry, conv_geometry, window_lead
from ..kernel import Constant, Kernel
from ..learning import rescale_rows
from ..packing import pad_axis, unroll
from ._weights import FEATURES, MAX_STORE_OFFSET

_MAX_ROW = 2000  # bytes; a row and its neighbour are reached with 12-bit offsets
_QUADS = 9


def rows_of(weights: Array) -> Array:
    """[O,KH,KW,I] → [O, K] bytes, K padded to a multiple of 4."""
    return pad_axis(weights.reshape(weights.shape[0], -1), 1, 4)


def row_bytes(node: Node, index: int, graph: Graph) -> int:
    """Distance of two filter rows of input `index`: state lies as it is, constants are padded."""
    value = node.inputs[index]
    k = value.type.elements // value.type.shape[0]
    return k if value in graph.storage else -(-k // 4) * 4


def _applies(node: Node, graph: Graph) -> bool:
    if node.attrs.groups != 1 or node.x.shape[0] != 1 or node.y.shape[3] % 2:
        return False
    g = conv_geometry(node)
    return (
        rescale_rows(node, graph) is not None
        and 3 * g.out_c + 1 <= MAX_STORE_OFFSET
        and max(row_bytes(node, i, graph) for i in (1, 2)) <= _MAX_ROW
    )


def _quads(node: Node, index: int) -> int:
    value = node.inputs[index].type
    return -(-(value.elements // value.shape[0]) // 4)


def _places(node: Node) -> list[int]:
    """Where every column of a window goes: frozen channels first, then trained, each padded."""
    _, kh, kw, kept = node.inputs[1].type.shape
    learnt = node.inputs[2].type.shape[3]
    order = {c: i for i, c in enumerate(node.attrs.trained_channels)}
    rest = iter(range(kept))
    within = [order.get(c, -1) for c in range(kept + learnt)]
    slot = [next(rest) if w < 0 else w for w in within]
    start = _quads(node, 1) * 4
    return [
        start + tap * learnt + slot[c] if within[c] >= 0 else tap * kept + slot[c]
        for tap in range(kh * kw)
        for c in range(kept + learnt)
    ]


def _view(node: Node, graph: Graph) -> Mapping[str, Any]:
    g = conv_geometry(node)
    frozen, trained = _quads(node, 1), _quads(node, 2)
    _, kernel_h, kernel_w, _ = node.inputs[1].type.shape
    return {
        **vars(g),
        "k": kernel_h * kernel_w * g.in_c,
        "pointwise": g.is_pointwise,
        "pixels": g.pixels,
        "frozen_quads": frozen,
        "trained_quads": trained,
        "frozen_row": row_bytes(node, 1, graph),
        "trained_row": row_bytes(node, 2, graph),
        "frozen_unroll": unroll(frozen, _QUADS) if frozen else 0,
        "trained_unroll": unroll(trained, _QUADS) if trained else 0,
        "padded_k": 4 * (frozen + trained),
        "bytes_size": _gather_bytes(node, g),
        "places": _places(node),
        "out_stride": g.out_c,
        "scale_up": 0,
        "x_zero_point": node.x.zero_point,
        "q_min": node.attrs.q_clamp[0],
        "q_max": node.attrs.q_clamp[1],
    }


def _gather_bytes(node: Node, g: Geometry) -> int:
    """The columns of a pixel in their order, and before that the window it comes from."""
    padded = 4 * (_quads(node, 1) + _quads(node, 2))
    return padded if g.is_pointwise else 2 * padded


def _scratch(node: Node, graph: Graph) -> int:
    del graph
    g = conv_geometry(node)
    tail = 4 * g.out_c if g.pixels % 4 else 0
    return 8 * 4 * (_quads(node, 1) + _quads(node, 2)) + _gather_bytes(node, g) + tail


def _constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    rows = rescale_rows(node, graph)
    assert rows is not None, "applies() promised"
    return {**filters_and_bias(node, graph), "rows": Constant(np.ravel(rows))}


def filters_and_bias(node: Node, graph: Graph) -> Mapping[str, Constant]:
    """Those that are not state, in natural rows."""
    made: dict[str, Constant] = {}
    for name, index in (("frozen", 1), ("trained", 2)):
        value = node.inputs[index]
        if value.type.elements and value not in graph.storage:
            made[name] = Constant(np.ravel(rows_of(graph.constant(value))))
    if node.inputs[3] not in graph.storage:
        made["bias"] = Constant(graph.constant(node.inputs[3]))
    return made


def learnt_state(node: Node, graph: Graph) -> Mapping[str, Value]:
    """Filters and bias that are."""
    named = {"frozen": node.inputs[1], "trained": node.inputs[2], "bias": node.inputs[3]}
    return {k: v for k, v in named.items() if v in graph.storage and v.type.elements}


def _instructions(node: Node, graph: Graph) -> float:
    del graph
    g = conv_geometry(node)
    quads = _quads(node, 1) + _quads(node, 2)
    return -(-g.pixels // 4) * (g.out_c / 2 * (29 * quads + 75) + 4 * 14 * quads)


KERNELS = (
    Kernel(
        name="conv2d_trainable_dsp",
        op="conv2d_trainable",
        template="targets/arm-dsp/kernels/conv2d_trainable.c.j2",
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

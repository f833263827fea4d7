"""dense, and conv2d over a single pixel: one row × four channels per block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...ir.graph import Graph, Node
from ..kernel import Constant
from ..packing import pad_axis, unroll
from ._row import row_kernels
from ._weights import (
    bound_epilogue,
    channel_words,
    dense_words,
    is_exact,
    is_radix,
)


def _view(node: Node, graph: Graph) -> Mapping[str, Any]:
    k, out_c = node.x.shape[-1], node.y.shape[-1]
    k_quads = -(-k // 4)
    return {
        "unroll": unroll(k_quads, 16),
        "stream_bytes": -(-out_c // 4) * (4 + k_quads * 4 + 12) * 4,
        "radix": is_radix(node, graph),
        "scale_up": bound_epilogue(node, graph).scale_up,
    }


def _constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    """Per four channels: 4 starts, per quad of k the words of pair 0 then 1, then {m, C, s} × 4."""
    radix = is_radix(node, graph)
    bias, rows = channel_words(bound_epilogue(node, graph), radix=radix)
    words = dense_words(node, graph, radix=radix)
    quads = len(words)
    starts = pad_axis(bias.reshape(-1, 2), 0, 2).reshape(quads, 4)
    tail = pad_axis(rows, 0, 2).reshape(quads, 12)
    return {"stream": Constant(np.ravel(np.concatenate([starts, words, tail], 1)))}


def _instructions(node: Node, graph: Graph) -> float:
    del graph
    k, out_c = node.x.shape[-1], node.y.shape[-1]
    return node.x.elements // k * (-(-out_c // 4) * (14 * -(-k // 4) + 45) + 1.5 * k + 40)


KERNELS = row_kernels(
    "row_dsp",
    "dense.c.j2",
    4,
    applies=is_exact,
    view=_view,
    constants=_constants,
    instructions=_instructions,
)

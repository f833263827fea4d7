"""dense, and conv2d over a single pixel, with weights as int16 pairs: one row × four channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...ir.graph import Graph, Node
from ..kernel import Constant
from ..packing import pad_axis, quad_pairs, words_of_halves
from ._loops import loop
from ._row import row_kernels
from ._uniform import uniform

_MAX_BODY = 8  # eights of k in the body of the loop: 0.7 kB of code


def _applies(node: Node, graph: Graph) -> bool:
    return uniform(node, graph) is not None


def _sizes(node: Node) -> tuple[int, int, int]:
    """Rows, eights of k, quads of channels."""
    k, out_c = node.x.shape[-1], node.y.shape[-1]
    return node.x.elements // k, -(-k // 8), -(-out_c // 4)


def _view(node: Node, graph: Graph) -> Mapping[str, Any]:
    form = uniform(node, graph)
    assert form is not None, "applies() promised"
    _, eights, quads = _sizes(node)
    return {
        **loop(eights, _MAX_BODY),
        "stream_bytes": quads * (eights * 64 + 32),
        "shift": form.shift,
    }


def _constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    form = uniform(node, graph)
    assert form is not None, "applies() promised"
    _, eights, quads = _sizes(node)
    w = pad_axis(pad_axis(form.weights.reshape(len(form.weights), -1), 1, 8), 0, 4)
    words = words_of_halves(*quad_pairs(w)).reshape(quads, 4, eights, 4)
    ends = [pad_axis(a, 0, 4).reshape(quads, 4) for a in (form.start, form.multiplier)]
    blocks = words.transpose(0, 2, 1, 3).reshape(quads, -1)
    stream = np.ravel(np.concatenate([ends[0], blocks, ends[1]], 1))
    return {"stream": Constant(np.concatenate([[form.offset], stream]).astype(np.int32))}


def _instructions(node: Node, graph: Graph) -> float:
    del graph
    rows, eights, quads = _sizes(node)
    rounds = loop(eights, _MAX_BODY)["rounds"]
    return rows * (
        quads * (21 * eights + 22 + 3 * (rounds if rounds > 1 else 0)) + 17 * eights + 60
    )


KERNELS = row_kernels(
    "pairs_row_dsp",
    "dense_pairs.c.j2",
    8,
    applies=_applies,
    view=_view,
    constants=_constants,
    instructions=_instructions,
)

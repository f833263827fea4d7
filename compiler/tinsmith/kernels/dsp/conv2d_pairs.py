"""Convolution (groups = 1) with weights as int16 pairs: two pixels × two channels per block.

The fastest form where flash has room for weights at twice their size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from ...ir.dtypes import Array
from ...ir.graph import Graph, Node
from ..geometry import Geometry, clamp_facts, conv_geometry, window_lead
from ..kernel import Constant, Kernel
from ..packing import pad_axis, quad_pairs, words_of_halves
from ._loops import loop
from ._uniform import uniform
from ._weights import FEATURES, MAX_STORE_OFFSET

_MAX_BODY = 16  # quads in the body of the loop: 0.6 kB of code

Feed = Literal["pixels", "rows", "packed"]


def _applies(node: Node, graph: Graph) -> bool:
    g = conv_geometry(node)
    return (
        node.attrs.groups == 1
        and node.x.shape[0] == 1
        and g.pixels > 1
        and (g.dilation_w == 1 or g.kernel_w == 1)
        and g.out_c + 2 <= MAX_STORE_OFFSET
        and uniform(node, graph) is not None
    )


def _feed(g: Geometry) -> Feed:
    if g.is_pointwise and g.in_c % 4 == 0:
        return "pixels"
    return "rows" if g.kernel_w * g.in_c % 4 == 0 else "packed"


def _quads(g: Geometry) -> int:
    return -(-g.kernel_h * g.kernel_w * g.in_c // 4)


def _gather_bytes(g: Geometry) -> int:
    match _feed(g):
        case "pixels":
            return 0
        case "rows":
            return 0 if g.is_inner else 2 * g.kernel_w * g.in_c
        case "packed":
            return 8 * _quads(g)


def _rows_bytes(g: Geometry) -> int:
    return 2 * (g.out_c + g.out_c % 2) if g.pixels % 2 or g.out_c % 2 else 0


def _view(node: Node, graph: Graph) -> Mapping[str, Any]:
    g = conv_geometry(node)
    form = uniform(node, graph)
    assert form is not None, "applies() promised"
    feed = _feed(g)
    run = g.kernel_w * g.in_c
    return {
        **vars(g),
        **loop(_quads(g) - 1, _MAX_BODY),
        "quads": _quads(g),
        "feed": feed,
        "run": run,
        "widened": run if feed != "packed" else 4 * _quads(g),
        "aligned": feed == "packed" or g.in_c % 4 == 0,
        "is_inner": g.is_inner,
        "channel_pairs": -(-g.out_c // 2),
        "pixels": g.pixels,
        "direct_store": g.out_c % 2 == 0,
        "out_stride": g.out_c + g.out_c % 2,
        "gather_bytes": _gather_bytes(g),
        "rows_bytes": _rows_bytes(g),
        "shift": form.shift,
        **clamp_facts(node),
    }


def _scratch(node: Node, graph: Graph) -> int:
    del graph
    g = conv_geometry(node)
    return 16 * _quads(g) + _gather_bytes(g) + _rows_bytes(g)


def stream(weights: Array, start: Array, multiplier: Array, offset: int) -> Array:
    """[O, K] weights in 16 bits → the stream of pairs.j2."""
    w = pad_axis(pad_axis(weights, 1, 4), 0, 2)
    words = words_of_halves(*quad_pairs(w))  # [O, K/2]
    words = words.reshape(len(w) // 2, 2, -1, 2).transpose(0, 2, 1, 3).reshape(len(w) // 2, -1)
    ends = [pad_axis(a, 0, 2).reshape(-1, 2) for a in (start, multiplier)]
    pairs = np.concatenate([ends[0], words, ends[1]], 1)
    return np.concatenate([[offset], np.ravel(pairs)]).astype(np.int32)


def _constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    form = uniform(node, graph)
    assert form is not None, "applies() promised"
    w = form.weights.reshape(len(form.weights), -1)
    return {"stream": Constant(stream(w, form.start, form.multiplier, form.offset))}


def _instructions(node: Node, graph: Graph) -> float:
    del graph
    g = conv_geometry(node)
    q = _quads(g)
    rounds = loop(q - 1, _MAX_BODY)["rounds"]
    block = -(-g.out_c // 2) * (10 * q + 20 + (3 * rounds if rounds > 1 else 0)) + 26
    gather = 5.5 * q + 14
    if _feed(g) == "rows":
        gather += 40 * g.kernel_h + 40
    elif _feed(g) == "packed":
        gather += 2 * (g.kernel_h * (4 + 0.7 * g.kernel_w * g.in_c) + 15)
    return -(-g.pixels // 2) * (block + gather)


KERNELS = (
    Kernel(
        name="conv2d_pairs_dsp",
        op="conv2d",
        template="targets/arm-dsp/kernels/conv2d_pairs.c.j2",
        features=FEATURES,
        applies=_applies,
        view=_view,
        constants=_constants,
        scratch_bytes=_scratch,
        lead_bytes=window_lead,
        instructions=_instructions,
    ),
)

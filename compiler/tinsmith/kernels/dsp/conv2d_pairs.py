"""Convolution (groups = 1) with weights as int16 pairs: two pixels × two channels per block.

The pairs are in flash, at twice the size of the weights, or are made of int8 weights in scratch.
That takes the channels in parts: each further one gathers all windows again, and keeps the output
off the input.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from ...ir.dtypes import Array
from ...ir.graph import Graph, Node
from ..geometry import Geometry, clamp_facts, conv_geometry, window_lead
from ..kernel import Constant, Kernel
from ..packing import Epilogue, epilogue, pad_axis, quad_pairs, words_of_halves
from ._loops import loop
from ._uniform import uniform
from ._weights import FEATURES, MAX_STORE_OFFSET, channel_words, filters

_MAX_BODY = 16  # quads in the body of the loop: 0.6 kB of code
_MAX_SCRATCH = 32 * 1024

Feed = Literal["pixels", "rows", "packed"]


def _is_run(node: Node) -> bool:
    g = conv_geometry(node)
    return (
        node.attrs.groups == 1
        and node.x.shape[0] == 1
        and g.pixels > 1
        and (g.dilation_w == 1 or g.kernel_w == 1)
        and g.out_c + 2 <= MAX_STORE_OFFSET
    )


def _applies(node: Node, graph: Graph) -> bool:
    return _is_run(node) and uniform(node, graph) is not None


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
    form = uniform(node, graph)
    assert form is not None, "applies() promised"
    pairs = -(-node.y.shape[3] // 2)
    return {**_facts(node), "parts": 0, "part_pairs": pairs, "shift": form.shift}


def _facts(node: Node) -> Mapping[str, Any]:
    g = conv_geometry(node)
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
    return -(-g.pixels // 2) * (block + _gathering(g))


def _gathering(g: Geometry) -> float:
    """Of two windows."""
    gather = 5.5 * _quads(g) + 14
    if _feed(g) == "rows":
        gather += 40 * g.kernel_h + 40
    elif _feed(g) == "packed":
        gather += 2 * (g.kernel_h * (4 + 0.7 * g.kernel_w * g.in_c) + 15)
    return gather


def _epilogue(node: Node, graph: Graph) -> Epilogue:
    constants = epilogue(node, graph)
    assert constants is not None, "applies() promised"
    return constants


def _expanding(parts: int) -> Kernel:
    """parts: in which the weights become pairs."""

    def applies(node: Node, graph: Graph) -> bool:
        g = conv_geometry(node)
        pairs = -(-g.out_c // 2)
        return (
            _is_run(node)
            and not g.is_pointwise
            and g.in_c >= 4  # a first layer has few weights
            and (parts == 1 or (pairs % parts == 0 and not _rows_bytes(g)))
            and epilogue(node, graph) is not None
            and scratch(node, graph) <= _MAX_SCRATCH
        )

    def part_pairs(node: Node) -> int:
        return -(-node.y.shape[3] // 2) // parts

    def view(node: Node, graph: Graph) -> Mapping[str, Any]:
        more = {"parts": parts, "part_pairs": part_pairs(node), "shift": None}
        return {**_facts(node), **more, "scale_up": _epilogue(node, graph).scale_up}

    def constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
        starts, rows = channel_words(_epilogue(node, graph), radix=False)
        w = filters(node, graph).astype(np.int8).reshape(len(starts), 2, -1, 4)
        words = np.ascontiguousarray(w.transpose(0, 2, 1, 3)).reshape(len(starts), -1)
        pairs = np.concatenate([starts, words.view(np.int32), rows.reshape(-1, 6)], 1)
        return {"stream": Constant(np.ravel(pairs))}

    def scratch(node: Node, graph: Graph) -> int:
        return _scratch(node, graph) + part_pairs(node) * (16 * _quads(conv_geometry(node)) + 32)

    def instructions(node: Node, graph: Graph) -> float:
        g = conv_geometry(node)
        pairs, groups = -(-g.out_c // 2), -(-g.pixels // 2)
        again = (parts - 1) * groups * (_gathering(g) + 26)
        return _instructions(node, graph) + pairs * (4 * groups + 9 * _quads(g) + 12) + again

    return Kernel(
        name=f"conv2d_pairs_int8_{parts}_dsp",
        op="conv2d",
        template="targets/arm-dsp/kernels/conv2d_pairs.c.j2",
        features=FEATURES,
        applies=applies,
        view=view,
        constants=constants,
        scratch_bytes=scratch,
        lead_bytes=window_lead if parts == 1 else lambda node, index: None,
        instructions=instructions,
    )


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
    *(_expanding(parts) for parts in (1, 2, 4)),
)

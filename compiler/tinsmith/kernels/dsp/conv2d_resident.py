"""Pointwise convolution of 4 or 8 input channels: two pixels stay in registers for all channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...ir.graph import Graph, Node
from ..geometry import clamp_facts, conv_geometry, window_lead
from ..kernel import Constant, Kernel
from ..packing import quad_pairs, words_of_halves
from ._loops import loop
from ._uniform import uniform
from ._weights import FEATURES, MAX_STORE_OFFSET

_MAX_BODY = 16  # channels in the body of the loop: 1 kB of code


def _applies(node: Node, graph: Graph) -> bool:
    g = conv_geometry(node)
    return (
        node.attrs.groups == 1
        and node.x.shape[0] == 1
        and g.is_pointwise
        and g.pixels > 1
        and g.in_c in (4, 8)
        and g.out_c <= MAX_STORE_OFFSET
        and uniform(node, graph) is not None
    )


def _view(node: Node, graph: Graph) -> Mapping[str, Any]:
    g = conv_geometry(node)
    form = uniform(node, graph)
    assert form is not None, "applies() promised"
    return {
        **loop(g.out_c, _MAX_BODY),
        "in_c": g.in_c,
        "out_c": g.out_c,
        "pixels": g.pixels,
        "stream_bytes": g.out_c * (g.in_c // 2 + 3) * 4,
        "shift": form.shift,
        **clamp_facts(node),
    }


def _scratch(node: Node, graph: Graph) -> int:
    """Two pixels and their outputs, for the last of an odd number of pixels."""
    del graph
    g = conv_geometry(node)
    return 2 * (g.in_c + g.out_c) if g.pixels % 2 else 0


def _constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    form = uniform(node, graph)
    assert form is not None, "applies() promised"
    words = words_of_halves(*quad_pairs(form.weights.reshape(len(form.weights), -1)))
    offset = np.full_like(form.multiplier, form.offset)
    stream = np.column_stack([form.start, words, form.multiplier, offset])
    return {"stream": Constant(np.ravel(stream).astype(np.int32))}


def _instructions(node: Node, graph: Graph) -> float:
    del graph
    g = conv_geometry(node)
    rounds = loop(g.out_c, _MAX_BODY)["rounds"]
    channels = g.out_c * (g.in_c + 9) + (3 * rounds if rounds > 1 else 0)
    return -(-g.pixels // 2) * (channels + g.in_c + 8) + 30


KERNELS = (
    Kernel(
        name="conv2d_resident_dsp",
        op="conv2d",
        template="targets/arm-dsp/kernels/conv2d_resident.c.j2",
        features=FEATURES,
        applies=_applies,
        view=_view,
        constants=_constants,
        scratch_bytes=_scratch,
        lead_bytes=window_lead,
        instructions=_instructions,
    ),
)

"""Mean over the pixels of each channel: four channels at a time, summed as pairs of halves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...ir.graph import Graph, Node
from ..kernel import Constant, Kernel
from ..portable.reduce_mean import fits_lanes, lanes_view, lead_bytes
from ._half_scale import HalfScale, half_scale
from ._loops import loop
from ._weights import FEATURES, MAX_STORE_OFFSET

_MAX_BODY = 8  # pixels in the body of the loop


def _applies(node: Node, graph: Graph) -> bool:
    return fits_lanes(node, graph, 4) and _scale(node, graph) is not None


def _scale(node: Node, graph: Graph) -> HalfScale | None:
    multiplier, shift = (int(graph.constant(v)[0]) for v in node.inputs[1:])
    pixels = node.x.elements // node.x.shape[-1]
    offset = -pixels * node.x.zero_point
    return half_scale([(multiplier, shift)], 128 * pixels, offset, node.y.zero_point)


def _form(node: Node) -> dict[str, int]:
    channels = node.x.shape[-1]
    return loop(node.x.elements // channels, min(_MAX_BODY, MAX_STORE_OFFSET // channels + 1))


def _view(node: Node, graph: Graph) -> Mapping[str, Any]:
    scale = _scale(node, graph)
    assert scale is not None, "applies() promised"
    return {**lanes_view(node, graph), **_form(node), "n": scale.n}


def _constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    scale = _scale(node, graph)
    assert scale is not None, "applies() promised"
    return {"scales": Constant(np.array(scale.factors[0], np.int32))}


def _instructions(node: Node, graph: Graph) -> float:
    del graph
    form, groups = _form(node), node.y.elements / 4
    loops = 3 * form["rounds"] + 1 if form["rounds"] > 1 else 1
    return groups * (3 * node.x.elements / node.y.elements + loops + 18) + 30


KERNELS = (
    Kernel(
        name="reduce_mean_dsp",
        op="reduce_mean",
        template="targets/arm-dsp/kernels/reduce_mean.c.j2",
        features=FEATURES,
        applies=_applies,
        view=_view,
        constants=_constants,
        lead_bytes=lead_bytes,
        instructions=_instructions,
    ),
)

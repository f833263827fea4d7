"""Mean over the pixels of each channel: four channels at a time, summed as pairs of halves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...ir.graph import Graph, Node
from ..kernel import Kernel
from ..portable.reduce_mean import constants, fits_lanes, lanes_view, lead_bytes
from ._weights import FEATURES

_BODY = 4  # pixels in the body of the loop


def _applies(node: Node, graph: Graph) -> bool:
    return fits_lanes(node, graph, 4)


def _view(node: Node, graph: Graph) -> Mapping[str, Any]:
    facts = lanes_view(node, graph)
    rounds, rest = divmod(facts["pixels"], _BODY)
    return {**facts, "body": _BODY, "rounds": rounds, "rest": rest}


def _instructions(node: Node, graph: Graph) -> float:
    del graph
    return 0.9 * node.x.elements + 36.0 * node.y.elements + 30


KERNELS = (
    Kernel(
        name="reduce_mean_dsp",
        op="reduce_mean",
        template="targets/arm-dsp/kernels/reduce_mean.c.j2",
        features=FEATURES,
        applies=_applies,
        view=_view,
        constants=constants,
        lead_bytes=lead_bytes,
        instructions=_instructions,
    ),
)

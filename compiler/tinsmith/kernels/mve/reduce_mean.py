"""Mean over the pixels of each channel: eight channels at a time, summed in int16 lanes."""

from __future__ import annotations

from ...ir.graph import Graph, Node
from ..kernel import Kernel
from ..portable.reduce_mean import constants, fits_lanes, lanes_view, lead_bytes
from ._weights import FEATURES


def _applies(node: Node, graph: Graph) -> bool:
    return fits_lanes(node, graph, 8)


def _instructions(node: Node, graph: Graph) -> float:
    del graph
    channels = node.x.shape[-1]
    return node.x.elements / 8 * 4 + channels * 14.0 + 20


KERNELS = (
    Kernel(
        name="reduce_mean_mve",
        op="reduce_mean",
        template="targets/arm-mve/kernels/reduce_mean.c.j2",
        features=FEATURES,
        applies=_applies,
        view=lanes_view,
        constants=constants,
        lead_bytes=lead_bytes,
        instructions=_instructions,
    ),
)

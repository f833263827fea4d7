"""Mean over the pixels of each channel: eight channels at a time, summed in int16 lanes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...ir.graph import Graph, Node
from ..kernel import Kernel
from ..portable.reduce_mean import constants, fits_lanes, lanes_view, lead_bytes
from ._mean import scale_up
from ._weights import FEATURES

_MOST_PIXELS = 2**16


def _pixels(node: Node) -> int:
    return node.x.elements // node.x.shape[-1]


def _applies(node: Node, graph: Graph) -> bool:
    found = fits_lanes(node, graph, 1, _MOST_PIXELS)
    return found and scale_up(node, graph, 255 * _pixels(node)) is not None


def _view(node: Node, graph: Graph) -> Mapping[str, Any]:
    up = scale_up(node, graph, 255 * _pixels(node))
    assert up is not None, "applies() promised"
    return {**lanes_view(node, graph), "up": up}


def _instructions(node: Node, graph: Graph) -> float:
    del graph
    channels, pixels = node.x.shape[-1], _pixels(node)
    tap = 3.25 + 1.75 * (channels % 8 > 0)
    return -(-channels // 8) * (tap * pixels + 24 + 8 * (pixels // 256)) + 25


KERNELS = (
    Kernel(
        name="reduce_mean_mve",
        op="reduce_mean",
        template="targets/arm-mve/kernels/reduce_mean.c.j2",
        features=FEATURES,
        applies=_applies,
        view=_view,
        constants=constants,
        lead_bytes=lead_bytes,
        instructions=_instructions,
    ),
)

"""Mean over the pixels of each channel: eight channels at a time, summed in int16 lanes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...ir.graph import Graph, Node
from ..geometry import clamp_facts
from ..kernel import Kernel
from ..portable.reduce_mean import constants, view
from ._weights import FEATURES

_PIXELS = 256  # whose sum of int8 fits an int16 lane


def _applies(node: Node, graph: Graph) -> bool:
    found = view(node, graph)
    outer, inner = found["outer"], found["inner"]
    channels = node.x.shape[-1]
    return (
        channels % 8 == 0
        and outer == ((channels, 1),)
        and inner == ((node.x.elements // channels, channels),)
        and inner[0][0] <= _PIXELS
    )


def _view(node: Node, graph: Graph) -> Mapping[str, Any]:
    del graph
    channels = node.x.shape[-1]
    pixels = node.x.elements // channels
    return {"channels": channels, "pixels": pixels, **clamp_facts(node)}


def _lead(node: Node, index: int) -> int | None:
    """In place: eight channels are read before their means are written, below all that follow."""
    del node
    return 0 if index == 0 else None


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
        view=_view,
        constants=constants,
        lead_bytes=_lead,
        instructions=_instructions,
    ),
)

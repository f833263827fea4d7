"""Mean over the pixels of each channel: four channels at a time, summed as pairs of halves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...ir.graph import Graph, Node
from ..geometry import clamp_facts
from ..kernel import Kernel
from ..portable.reduce_mean import constants, view
from ._weights import FEATURES

_PIXELS = 256  # whose sum of int8 fits an int16 half
_BODY = 4  # pixels in the body of the loop


def _applies(node: Node, graph: Graph) -> bool:
    found = view(node, graph)
    channels = node.x.shape[-1]
    pixels = node.x.elements // channels
    whole = found["outer"] == ((channels, 1),) and found["inner"] == ((pixels, channels),)
    return whole and channels % 4 == 0 and pixels <= _PIXELS


def _view(node: Node, graph: Graph) -> Mapping[str, Any]:
    del graph
    channels = node.x.shape[-1]
    pixels = node.x.elements // channels
    rounds, rest = divmod(pixels, _BODY)
    return {
        "channels": channels,
        "pixels": pixels,
        "body": _BODY,
        "rounds": rounds,
        "rest": rest,
        **clamp_facts(node),
    }


def _lead(node: Node, index: int) -> int | None:
    """In place: four channels are read before their means are written, below all that follow."""
    del node
    return 0 if index == 0 else None


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
        lead_bytes=_lead,
        instructions=_instructions,
    ),
)

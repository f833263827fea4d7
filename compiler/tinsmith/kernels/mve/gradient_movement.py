"""What training moves: the channels of a saved input, and gradients that a mask lets through."""

from __future__ import annotations

from ...ir.dtypes import DType
from ...ir.graph import Graph, Node
from ..kernel import Kernel
from ..portable.pool_gradient import ascending, gather_view
from ..portable.quantize_gradient import first_in_place, masked_view
from ._weights import FEATURES

_MOST_CHANNELS = 256  # the place of a channel is a byte
_MOST_GATHERS = 8
_PER_GATHER = 16


def _gathers(node: Node) -> int:
    return -(-len(node.attrs.channels) // _PER_GATHER)


def _gather_applies(node: Node, graph: Graph) -> bool:
    in_c = node.x.shape[-1]
    return (
        ascending(node, graph)
        and len(node.attrs.channels) < in_c <= _MOST_CHANNELS
        and _gathers(node) <= _MOST_GATHERS
    )


def _gather_instructions(node: Node, graph: Graph) -> float:
    del graph
    return node.x.elements / node.x.shape[-1] * (4 * _gathers(node) + 4) + 20.0


KERNELS = (
    Kernel(
        name="gather_channels_mve",
        op="gather_channels",
        template="targets/arm-mve/kernels/gather_channels.c.j2",
        features=FEATURES,
        applies=_gather_applies,
        view=gather_view,
        lead_bytes=first_in_place,
        instructions=_gather_instructions,
    ),
    Kernel(
        name="mask_gradient_mve",
        op="mask_gradient",
        template="targets/arm-mve/kernels/mask_gradient.c.j2",
        dtype=DType.FLOAT32,
        features=FEATURES,
        view=masked_view,
        lead_bytes=first_in_place,
        instructions=lambda node, graph: 2.0 * node.x.elements + 25.0,
    ),
)

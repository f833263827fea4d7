"""Permutation of channels by gathers of 16 bytes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...ir.graph import Graph, Node
from ..kernel import Constant, Kernel
from ..portable.permute_channels import lead_bytes, view
from ._weights import FEATURES

_MOST_CHANNELS = 256  # the place of a channel is a byte
_PER_GATHER = 16


def _applies(node: Node, graph: Graph) -> bool:
    del graph
    return node.x.shape[-1] <= _MOST_CHANNELS


def _constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    return {"order": Constant(graph.constant(node.inputs[1]).astype(np.uint8))}


def _instructions(node: Node, graph: Graph) -> float:
    del graph
    channels = node.x.shape[-1]
    return node.x.elements / channels * (4 + 3 * -(-channels // _PER_GATHER))


KERNELS = (
    Kernel(
        name="permute_channels_mve",
        op="permute_channels",
        template="targets/arm-mve/kernels/permute_channels.c.j2",
        features=FEATURES,
        applies=_applies,
        view=view,
        constants=_constants,
        lead_bytes=lead_bytes,
        instructions=_instructions,
    ),
)

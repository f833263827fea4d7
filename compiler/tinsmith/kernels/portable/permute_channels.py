"""Portable permutation of channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...ir.graph import Graph, Node
from ..kernel import Constant, Kernel


def view(node: Node, graph: Graph) -> Mapping[str, Any]:
    del graph
    channels = node.x.shape[-1]
    return {"channels": channels, "pixels": node.x.elements // channels}


def constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    return {"order": Constant(graph.constant(node.inputs[1]))}


def lead_bytes(node: Node, index: int) -> int | None:
    """A pixel is written while its channels are still read."""
    return node.x.shape[-1] if index == 0 else None


KERNELS = (
    Kernel(
        name="permute_channels_s8",
        op="permute_channels",
        template="ops/permute_channels.c.j2",
        view=view,
        constants=constants,
        lead_bytes=lead_bytes,
        instructions=lambda node, graph: 6.0 * node.y.elements,
    ),
)

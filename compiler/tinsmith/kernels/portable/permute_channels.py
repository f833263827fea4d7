"""Portable permutation of channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...ir.dtypes import DType
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
    return node.x.shape[-1] * node.x.dtype.bytes if index == 0 else None


KERNELS = tuple(
    Kernel(
        name=f"permute_channels_{suffix}",
        op="permute_channels",
        template="ops/permute_channels.c.j2",
        dtype=dtype,
        view=view,
        constants=constants,
        lead_bytes=lead_bytes,
        instructions=lambda node, graph: 6.0 * node.y.elements,
    )
    for suffix, dtype in (("s8", DType.INT8), ("f32", DType.FLOAT32))
)

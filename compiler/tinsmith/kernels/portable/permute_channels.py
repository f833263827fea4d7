"""Portable permutation of channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...ir.dtypes import DType
from ...ir.graph import Graph, Node
from ..kernel import Constant, Kernel

_MOST_UNROLLED = 128  # channels: 8 bytes of code each


def view(node: Node, graph: Graph) -> Mapping[str, Any]:
    del graph
    channels = node.x.shape[-1]
    return {"channels": channels, "pixels": node.x.elements // channels}


def constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    return {"order": Constant(graph.constant(node.inputs[1]))}


def lead_bytes(node: Node, index: int) -> int | None:
    """A pixel is written while its channels are still read."""
    return node.x.shape[-1] * node.x.dtype.bytes if index == 0 else None


def _is_narrow(node: Node, graph: Graph) -> bool:
    del graph
    return node.x.shape[-1] <= _MOST_UNROLLED


def _view_unrolled(node: Node, graph: Graph) -> Mapping[str, Any]:
    return {**view(node, graph), "order": graph.constant(node.inputs[1]).tolist()}


def _no_constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    del node, graph
    return {}


# The order is in the code: two instructions to a channel, and no table.
_UNROLLED = Kernel(
    name="permute_channels_unrolled",
    op="permute_channels",
    template="ops/permute_channels_unrolled.c.j2",
    dtype=DType.INT8,
    applies=_is_narrow,
    view=_view_unrolled,
    constants=_no_constants,
    lead_bytes=lead_bytes,
    instructions=lambda node, graph: 2.1 * node.y.elements,
)

_TABLES = tuple(
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

KERNELS = (_UNROLLED, *_TABLES)

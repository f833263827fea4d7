"""Portable slice: a strided copy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...ir.graph import Graph, Node
from ...ops.slice import rows
from ._movement import movement_kernels, strided_view, strides_of


def view(node: Node, graph: Graph) -> Mapping[str, Any]:
    del graph
    strides = strides_of(node.x.shape)
    start = 0
    for axis, first, _, step in rows(node.attrs):
        start += first * strides[axis]
        strides[axis] *= step
    return strided_view(node.y.shape, strides, start)


def lead_bytes(node: Node, index: int) -> int | None:
    """In place is safe with positive steps: the k-th element read lies at k or above."""
    return 0 if index == 0 and min(node.attrs.steps, default=1) > 0 else None


KERNELS = movement_kernels("slice", view, lead_bytes)

"""Portable max pooling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...ir.dtypes import DType
from ...ir.graph import Graph, Node
from ..kernel import Kernel
from ._pool import instructions, lead_bytes, pool_view


def view(node: Node, graph: Graph) -> Mapping[str, Any]:
    del graph
    return pool_view(node)


KERNELS = tuple(
    Kernel(
        name=name,
        op="max_pool",
        template=template,
        dtype=dtype,
        view=view,
        lead_bytes=lead_bytes,
        instructions=instructions,
    )
    for name, template, dtype in (
        ("max_pool_s8", "ops/max_pool.c.j2", DType.INT8),
        ("max_pool_f32", "ops/max_pool.f32.c.j2", DType.FLOAT32),
    )
)

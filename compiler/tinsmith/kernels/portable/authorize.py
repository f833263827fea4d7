"""The call of the secure world. Its function hands over pointers; the secure world copies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...ir.graph import Graph, Node
from ..kernel import Kernel


def view(node: Node, graph: Graph) -> Mapping[str, Any]:
    return {"call": node.attrs.call, "count": len(graph.activations(node))}


KERNELS = (Kernel("authorize", "authorize", "ops/authorize.c.j2", view, may_refuse=True),)

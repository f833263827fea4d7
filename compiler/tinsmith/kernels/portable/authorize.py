"""Calls of the secure world. Their functions hand over pointers; the secure world copies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...ir.dtypes import DType
from ...ir.graph import Graph, Node, Value
from ..kernel import Kernel


def view(node: Node, graph: Graph) -> Mapping[str, Any]:
    return {"call": node.attrs.call, "count": len(graph.activations(node))}


def states(node: Node, graph: Graph) -> Mapping[str, Value]:
    del graph
    return {f"state{i}": v for i, v in enumerate(node.inputs[node.attrs.given :])}


def gradient_view(node: Node, graph: Graph) -> Mapping[str, Any]:
    given = {"call": node.attrs.call, "count": node.attrs.given}
    return {**given, "states": tuple(states(node, graph))}


KERNELS = (
    Kernel("authorize", "authorize", "ops/authorize.c.j2", view, may_refuse=True),
    Kernel(
        "authorize_gradient",
        "authorize_gradient",
        "ops/authorize_gradient.c.j2",
        gradient_view,
        dtype=DType.FLOAT32,
        state=states,
        may_refuse=True,
    ),
)

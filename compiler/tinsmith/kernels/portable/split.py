"""Portable split: copies row after row."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ...ir.graph import Graph, Node
from ._movement import movement_kernels


def view(node: Node, graph: Graph) -> Mapping[str, Any]:
    """parts: (parameter, elements a row) of each output."""
    del graph
    axis = node.attrs.axis
    parts = tuple(
        (f"y{i or ''}", math.prod(v.type.shape[axis:])) for i, v in enumerate(node.outputs)
    )
    return {"rows": math.prod(node.x.shape[:axis]), "parts": parts}


KERNELS = movement_kernels("split", view)

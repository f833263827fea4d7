"""Portable concatenation: copies row after row."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...ir.graph import Graph, Node
from ..kernel import Constant
from ._movement import movement_kernels


def view(node: Node, graph: Graph) -> Mapping[str, Any]:
    """parts: (parameter, elements a row, where in the output's row) of each input."""
    parts: list[tuple[str, int, int]] = []
    activations = 0
    for i, (value, (size, start)) in enumerate(zip(node.inputs, _rows(node), strict=True)):
        name = f"part{i}"
        if not graph.is_constant(value):
            name = f"x{activations or ''}"
            activations += 1
        parts.append((name, size, start))
    rows = math.prod(node.y.shape[: node.attrs.axis])
    return {"rows": rows, "parts": tuple(parts), "row_elements": node.y.elements // rows}


def constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    """part<i>: input i where it is constant."""
    return {
        f"part{i}": Constant(np.ravel(graph.constant(v)))
        for i, v in enumerate(node.inputs)
        if graph.is_constant(v)
    }


def lead_bytes(node: Node, index: int) -> int | None:
    """Rows are copied forward, so input `index` is safe while its row is read at or after where
    it is written; the output's rows are longer, so the last row decides."""
    rows = math.prod(node.y.shape[: node.attrs.axis])
    size, start = _rows(node)[index]
    drift = (rows - 1) * (node.y.elements // rows - size)
    return (drift + start) * node.y.dtype.bytes


def _rows(node: Node) -> list[tuple[int, int]]:
    """(elements, where) of each input in one row of the output."""
    axis = node.attrs.axis
    sizes = [math.prod(v.type.shape[axis:]) for v in node.inputs]
    return [(size, sum(sizes[:i])) for i, size in enumerate(sizes)]


KERNELS = movement_kernels("concat", view, lead_bytes, constants)

"""Portable softmax along any axis: rows of `length` elements that are `step` apart."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...ir.dtypes import DType
from ...ir.graph import Graph, Node
from ..kernel import Constant, Kernel

_NARROW_NUMERATOR = 256  # times a table entry of at most 2^23 it fits uint32, half the sum too


def view(node: Node, graph: Graph) -> Mapping[str, Any]:
    """loops over rows, and `start`, the first element of a row."""
    del graph
    shape, axis = node.x.shape, node.attrs.axis
    length, step = shape[axis], math.prod(shape[axis + 1 :])
    outer = math.prod(shape[:axis])
    loops = [("row", outer)] + ([("lane", step)] if step > 1 else [])
    start = f"row * {length * step}" + (" + lane" if step > 1 else "")
    facts: dict[str, Any] = {"loops": loops, "start": start, "length": length, "step": step}
    if node.y.dtype is DType.INT8:
        attrs = node.attrs
        facts |= {
            "numerator": attrs.numerator,
            "bits": attrs.bits,
            "narrow": attrs.bits == 0 and attrs.numerator <= _NARROW_NUMERATOR,
            "y_zero_point": node.y.zero_point,
        }
    return facts


def constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    return {"table": Constant(np.ravel(graph.constant(node.inputs[1])))}


def lead_bytes(node: Node, index: int) -> int | None:
    """In place along the last axis; lanes of other axes interleave."""
    inner = math.prod(node.x.shape[node.attrs.axis + 1 :])
    return 0 if index == 0 and inner == 1 else None


KERNELS = (
    Kernel(
        name="softmax_s8",
        op="softmax",
        template="ops/softmax.c.j2",
        view=view,
        constants=constants,
        lead_bytes=lead_bytes,
        instructions=lambda node, graph: 60.0 * node.y.elements,
    ),
    Kernel(
        name="softmax_f32",
        op="softmax",
        template="ops/softmax.f32.c.j2",
        dtype=DType.FLOAT32,
        view=view,
        lead_bytes=lead_bytes,
        instructions=lambda node, graph: 150.0 * node.y.elements,
    ),
)

"""Portable matmul of two activations, batches broadcast. A constant operand is `operand`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...ir.dtypes import DType
from ...ir.graph import Graph, Node
from ..kernel import Kernel
from ._elementwise import binary_constants, broadcast_loops, fits_int32


def view(node: Node, graph: Graph) -> Mapping[str, Any]:
    """Batch loops, the start of each operand's matrix, and the matrix sizes."""
    a, b = node.inputs
    rows, depth = a.type.shape[-2:]
    columns = b.type.shape[-1]
    loops = broadcast_loops(node.y.shape[:-2], [a.type.shape[:-2], b.type.shape[:-2]])
    counters = [f"batch{i}" for i in range(len(loops))]
    facts: dict[str, Any] = {
        "loops": tuple(zip(counters, (count for count, _ in loops), strict=True)),
        "a_name": "operand" if graph.is_constant(a) else "x",
        "b_name": "operand" if graph.is_constant(b) else "x" if graph.is_constant(a) else "x1",
        "a_start": _start(counters, [step[0] * rows * depth for _, step in loops]),
        "b_start": _start(counters, [step[1] * depth * columns for _, step in loops]),
        "rows": rows,
        "depth": depth,
        "columns": columns,
    }
    if node.y.dtype is DType.INT8:
        facts |= {
            "a_zero_point": a.type.zero_point,
            "b_zero_point": b.type.zero_point,
            "y_zero_point": node.y.zero_point,
            "multiplier": node.attrs.multiplier,
            "shift": node.attrs.shift,
            "narrow": fits_int32(depth * 255 * 255, node.attrs.shift),
        }
    return facts


def _start(counters: list[str], steps: list[int]) -> str:
    terms = [f"{c} * {s}" for c, s in zip(counters, steps, strict=True) if s]
    return " + ".join(terms) or "0"


KERNELS = (
    Kernel(
        name="matmul_s8",
        op="matmul",
        template="ops/matmul.c.j2",
        view=view,
        constants=binary_constants,
        instructions=lambda node, graph: 8.0 * node.op.macs(node) + 40.0 * node.y.elements,
    ),
    Kernel(
        name="matmul_f32",
        op="matmul",
        template="ops/matmul.f32.c.j2",
        dtype=DType.FLOAT32,
        view=view,
        constants=binary_constants,
        instructions=lambda node, graph: 8.0 * node.op.macs(node),
    ),
)

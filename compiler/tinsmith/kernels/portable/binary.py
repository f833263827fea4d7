"""Portable add, sub and mul. The operator's name selects constants and spelling."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ...ir.dtypes import DType
from ...ir.graph import Graph, Node
from ..kernel import Kernel
from ._elementwise import binary_constants, binary_view, fits_int32, in_place


def sum_view(node: Node, graph: Graph) -> Mapping[str, Any]:
    attrs = node.attrs
    return binary_view(node, graph) | {"a": attrs.a, "b": attrs.b, "c": attrs.c, "n": attrs.n}


def product_view(node: Node, graph: Graph) -> Mapping[str, Any]:
    first, second = (v.type.zero_point for v in node.inputs)
    return binary_view(node, graph) | {
        "z1": first,
        "z2": second,
        "multiplier": node.attrs.multiplier,
        "shift": node.attrs.shift,
        "narrow": fits_int32(255 * 255, node.attrs.shift),
        "y_zero_point": node.y.zero_point,
    }


def _float_view(operator: str) -> Callable[[Node, Graph], Mapping[str, Any]]:
    return lambda node, graph: binary_view(node, graph) | {"operator": operator}


def _instructions(each: float) -> Callable[[Node, Graph], float]:
    return lambda node, graph: each * node.y.elements


def _float(op: str, operator: str) -> Kernel:
    return Kernel(
        name=f"{op}_f32",
        op=op,
        template="ops/add.f32.c.j2",
        dtype=DType.FLOAT32,
        view=_float_view(operator),
        constants=binary_constants,
        lead_bytes=in_place,
        instructions=_instructions(8),
    )


def _sum(op: str) -> Kernel:
    return Kernel(
        name=f"{op}_s8",
        op=op,
        template="ops/add.c.j2",
        view=sum_view,
        constants=binary_constants,
        lead_bytes=in_place,
        instructions=_instructions(13),
    )


KERNELS = (
    _sum("add"),
    _sum("sub"),
    Kernel(
        name="mul_s8",
        op="mul",
        template="ops/mul.c.j2",
        view=product_view,
        constants=binary_constants,
        lead_bytes=in_place,
        instructions=_instructions(25),
    ),
    _float("add", "+"),
    _float("sub", "-"),
    _float("mul", "*"),
)

"""Int8 operators on single elements: add, sub, mul with broadcasting; lookup."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ....ir.graph import Graph, Node
from ...import_tvm import PrimFunc, te
from ..requantize import clamp_s8, rescale
from ..rule import CudaRule, constant_operands, operand_names, ravel, unravel
from ..schedules import elementwise


def _binary(node: Node, graph: Graph, function: Callable[[Any, Any], Any]) -> PrimFunc:
    """function(a, b) of the broadcast operands as int32 → int8."""
    buffers, operand, lanes = broadcast_operands(node, graph, "int8")

    def value(i: Any) -> Any:
        return function(operand(0, i).astype("int32"), operand(1, i).astype("int32"))

    return elementwise(buffers, [(node.y.elements, value)], lanes)


def broadcast_operands(
    node: Node, graph: Graph, dtype: str
) -> tuple[list[Any], Callable[[int, Any], Any], int]:
    """Of a node with two operands: its buffers, (operand, flat output index) → element, and how
    many elements a thread takes."""
    names, out = operand_names(node, graph), node.y.shape
    shapes = [v.type.shape for v in node.inputs]
    unique = {
        name: te.placeholder((v.type.elements,), dtype, name)
        for name, v in zip(names, node.inputs, strict=True)
    }

    def operand(position: int, i: Any) -> Any:
        buffer, shape = unique[names[position]], shapes[position]
        if shape == out:
            return buffer[i]
        full = unravel(i, out)[len(out) - len(shape) :]
        indices = [0 if size == 1 else at for at, size in zip(full, shape, strict=True)]
        return buffer[ravel(indices, shape)]

    same = all(shape == out for shape in shapes)
    lanes = 4 if same and node.y.elements % 4 == 0 else 1
    return list(unique.values()), operand, lanes


def _sum(node: Node, graph: Graph) -> PrimFunc:
    attrs = node.attrs

    def value(a: Any, b: Any) -> Any:
        return clamp_s8((a * attrs.a + b * attrs.b + attrs.c) >> attrs.n, *attrs.q_clamp)

    return _binary(node, graph, value)


def _product(node: Node, graph: Graph) -> PrimFunc:
    z1, z2 = (v.type.zero_point for v in node.inputs)

    def value(a: Any, b: Any) -> Any:
        return rescale((a - z1) * (b - z2), node)

    return _binary(node, graph, value)


def _lookup(node: Node, graph: Graph) -> PrimFunc:
    size = node.y.elements
    x = te.placeholder((size,), "int8", "x")
    table = te.placeholder((256,), "int8", "c1")
    del graph
    return elementwise([x, table], [(size, lambda i: table[x[i].astype("int32") + 128])])


RULES = (
    CudaRule("add", build=_sum, constants=constant_operands),
    CudaRule("sub", build=_sum, constants=constant_operands),
    CudaRule("mul", build=_product, constants=constant_operands),
    CudaRule("lookup", build=_lookup, constants=constant_operands),
)

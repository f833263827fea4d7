"""Int8 products of two activations: an output per thread."""

from __future__ import annotations

from typing import Any

from ....ir.graph import Graph, Node
from ...import_tvm import PrimFunc, te
from ..requantize import rescale
from ..rule import CudaRule, constant_operands, operand_names, ravel, unravel
from ..schedules import reduction


def _build(node: Node, graph: Graph) -> PrimFunc:
    names, out = operand_names(node, graph), node.y.shape
    a_type, b_type = (v.type for v in node.inputs)
    unique = {
        name: te.placeholder((v.type.elements,), "int8", name)
        for name, v in zip(names, node.inputs, strict=True)
    }
    a, b = (unique[name] for name in names)
    depth = te.reduce_axis((0, a_type.shape[-1]), "k")

    def batch(indices: list[Any], shape: tuple[int, ...]) -> list[Any]:
        own = indices[len(indices) - (len(shape) - 2) :] if len(shape) > 2 else []
        return [0 if size == 1 else at for at, size in zip(own, shape[:-2], strict=True)]

    def product(i: Any, column: Any) -> Any:
        *outer, row = unravel(i, out[:-1])
        left = a[ravel([*batch(outer, a_type.shape), row, depth], a_type.shape)]
        right = b[ravel([*batch(outer, b_type.shape), depth, column], b_type.shape)]
        return te.sum(
            (left.astype("int32") - a_type.zero_point)
            * (right.astype("int32") - b_type.zero_point),
            axis=depth,
        )

    shape = (node.y.elements // out[-1], out[-1])
    c = te.compute(shape, product, name="C")
    y = te.compute(shape, lambda i, j: rescale(c[i, j], node), name="y")
    return reduction(list(unique.values()), y)


RULES = (CudaRule("matmul", build=_build, constants=constant_operands),)

"""Int8 products of two activations: an output per thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ....ir.graph import Graph, Node
from ...import_tvm import PrimFunc, te
from ..requantize import rescale
from ..rule import CudaRule, constant_operands, operand_names, ravel, unravel
from ..schedules import reduction


def _build(node: Node, graph: Graph) -> PrimFunc:
    names = operand_names(node, graph)
    z1, z2 = (v.type.zero_point for v in node.inputs)
    unique = {
        name: te.placeholder((v.type.elements,), "int8", name)
        for name, v in zip(names, node.inputs, strict=True)
    }

    def product(a: Any, b: Any) -> Any:
        return (a.astype("int32") - z1) * (b.astype("int32") - z2)

    c = matmul_function(node, [unique[name] for name in names], product)
    y = te.compute(c.shape, lambda i, j: rescale(c[i, j], node), name="y")
    return reduction(list(unique.values()), y)


def matmul_function(node: Node, operands: Sequence[Any], product: Callable[[Any, Any], Any]) -> Any:
    """The tensor "C" [rows of the whole batch, columns]: sums of products of the two buffers."""
    (a, b), (a_type, b_type) = operands, (v.type for v in node.inputs)
    out = node.y.shape
    depth = te.reduce_axis((0, a_type.shape[-1]), "k")

    def batch(indices: list[Any], shape: tuple[int, ...]) -> list[Any]:
        own = indices[len(indices) - (len(shape) - 2) :] if len(shape) > 2 else []
        return [0 if size == 1 else at for at, size in zip(own, shape[:-2], strict=True)]

    def total(i: Any, column: Any) -> Any:
        *outer, row = unravel(i, out[:-1])
        left = a[ravel([*batch(outer, a_type.shape), row, depth], a_type.shape)]
        right = b[ravel([*batch(outer, b_type.shape), depth, column], b_type.shape)]
        return te.sum(product(left, right), axis=depth)

    return te.compute((node.y.elements // out[-1], out[-1]), total, name="C")


def _sums_fit(node: Node, graph: Graph) -> bool:
    """Whether no sum of products of centred integers leaves int32."""
    del graph
    return node.x.shape[-1] < 2**31 // (255 * 255)


RULES = (CudaRule("matmul", build=_build, constants=constant_operands, applies=_sums_fit),)

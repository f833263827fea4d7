"""Int8 softmax: a warp for each row; the form is that of `ops.softmax`."""

from __future__ import annotations

import math
from typing import Any

from ....ir.graph import Graph, Node
from ...import_tvm import PrimFunc, Schedule, te
from ..requantize import clamp_s8
from ..rule import CudaRule, constant_operands

_WARP = 32


def _build(node: Node, graph: Graph) -> PrimFunc:
    del graph
    attrs, shape = node.attrs, node.x.shape
    length, inner = shape[attrs.axis], math.prod(shape[attrs.axis + 1 :])
    rows = node.x.elements // length
    x = te.placeholder((node.x.elements,), "int8", "x")
    table = te.placeholder((256,), "int32", "c1")
    k = te.reduce_axis((0, length), "k")
    j = te.reduce_axis((0, length), "j")

    def at(row: Any, k: Any) -> Any:
        return (row // inner * length + k) * inner + row % inner

    def power(row: Any, k: Any) -> Any:
        return table[largest[row] - x[at(row, k)].astype("int32")]

    largest = te.compute(
        (rows,), lambda r: te.max(x[at(r, k)].astype("int32"), axis=k), name="largest"
    )
    total = te.compute((rows,), lambda r: te.sum(power(r, j).astype("int64"), axis=j), name="total")

    def value(row: Any, k: Any) -> Any:
        whole = total[row] << te.const(attrs.bits, "int64")
        scaled = power(row, k).astype("int64") * te.const(attrs.numerator, "int64")
        quotient = te.truncdiv(scaled + (whole >> te.const(1, "int64")), whole)
        return clamp_s8(quotient + te.const(node.y.zero_point, "int64"), -128, 127)

    y = te.compute((rows, length), value, name="y")
    function = te.create_prim_func([x, table, y])
    s = Schedule(function)
    block = s.get_sblock("y")
    row, column = s.get_loops(block)
    s.bind(row, "blockIdx.x")
    for name in ("total", "largest"):
        summed = s.get_sblock(name)
        s.set_scope(summed, 0, "shared")
        s.compute_at(summed, row, preserve_unit_loops=True)
        _, thread = s.split(s.get_loops(summed)[-1], [None, _WARP])
        s.bind(thread, "threadIdx.x")
    _, thread = s.split(column, [None, _WARP])
    s.bind(thread, "threadIdx.x")
    s.transform_layout(block, ("write", 0), lambda r, k: [at(r, k)])
    return s.mod["main"]


RULES = (CudaRule("softmax", build=_build, constants=constant_operands),)

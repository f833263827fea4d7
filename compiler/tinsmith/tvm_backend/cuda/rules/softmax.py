"""Softmax: a warp for each row. The int8 form is that of `ops.softmax`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ....ir.dtypes import DType
from ....ir.graph import Graph, Node
from ...import_tvm import PrimFunc, Schedule, te
from ..requantize import clamp_s8
from ..rule import CudaRule, constant_operands

_WARP = 32


@dataclass(frozen=True)
class _Form:
    """power: what is summed of an element, given its row's maximum; share: (power, sum) → y.

    buffers: its constants. compare: the type in which elements are compared; total: of the sum.
    """

    buffers: list[Any]
    compare: str
    total: str
    power: Callable[[Any, Any], Any]
    share: Callable[[Any, Any], Any]


def _int8(node: Node, graph: Graph) -> PrimFunc:
    del graph
    attrs = node.attrs
    table = te.placeholder((256,), "int32", "c1")

    def wide(value: int) -> Any:
        return te.const(value, "int64")

    def share(power: Any, total: Any) -> Any:
        whole = total << wide(attrs.bits)
        scaled = power.astype("int64") * wide(attrs.numerator)
        quotient = te.truncdiv(scaled + (whole >> wide(1)), whole)
        return clamp_s8(quotient + wide(node.y.zero_point), -128, 127)

    form = _Form([table], "int32", "int64", lambda x, largest: table[largest - x], share)
    return _rows(node, form)


def _float32(node: Node, graph: Graph) -> PrimFunc:
    del graph
    return _rows(
        node,
        _Form(
            [],
            "float32",
            "float32",
            power=lambda x, largest: te.exp(x - largest),
            share=lambda power, total: power / total,
        ),
    )


def _rows(node: Node, form: _Form) -> PrimFunc:
    axis, shape = node.attrs.axis, node.x.shape
    length, inner = shape[axis], math.prod(shape[axis + 1 :])
    rows = node.x.elements // length
    x = te.placeholder((node.x.elements,), node.x.dtype.value, "x")
    k, j = te.reduce_axis((0, length), "k"), te.reduce_axis((0, length), "j")

    def at(row: Any, k: Any) -> Any:
        return (row // inner * length + k) * inner + row % inner

    def element(row: Any, k: Any) -> Any:
        return x[at(row, k)].astype(form.compare)

    largest = te.compute((rows,), lambda r: te.max(element(r, k), axis=k), name="largest")

    def power(row: Any, k: Any) -> Any:
        return form.power(element(row, k), largest[row])

    total = te.compute(
        (rows,), lambda r: te.sum(power(r, j).astype(form.total), axis=j), name="total"
    )
    y = te.compute((rows, length), lambda r, k: form.share(power(r, k), total[r]), name="y")
    s = Schedule(te.create_prim_func([x, *form.buffers, y]))
    _schedule(s, at)
    return s.mod["main"]


def _schedule(s: Schedule, at: Callable[[Any, Any], Any]) -> None:
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


RULES = (
    CudaRule("softmax", build=_int8, constants=constant_operands),
    CudaRule("softmax", build=_float32, dtype=DType.FLOAT32),
)

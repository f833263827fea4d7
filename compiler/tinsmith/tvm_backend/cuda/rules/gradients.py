"""Gradients that meet, spread, shrink or pass a clamp or a table; as `ops/` says, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ....ir.dtypes import DType
from ....ir.graph import Graph, Node, Value
from ....kernels import Constant
from ...import_tvm import PrimFunc, T, tirx
from ..rule import CudaRule, constant_operands, ravel, state_names, unravel
from ..threads import Cell, Expr, Operands, Phase, phases, plus, real, store, times

Build = Callable[[Node, Graph], PrimFunc]
Element = Callable[[Node, Operands, Expr], Expr]  # node, buffers, flat index → the output there


def rules(
    op: str,
    build: Build,
    constants: Callable[[Node, Graph], Mapping[str, Constant]] = constant_operands,
    applies: Callable[[Node, Graph], bool] = lambda node, graph: True,
) -> Sequence[CudaRule]:
    """A rule for nodes of either kind: int8 only says that one of their values is."""

    def state(node: Node, graph: Graph) -> Mapping[str, Value]:
        return dict(state_names(node, graph))

    dtypes = (DType.INT8, DType.FLOAT32)
    return [CudaRule(op, build, dtype, constants, applies, state) for dtype in dtypes]


def _each(
    element: Element, tables: Callable[[Node], Mapping[str, Constant]] | None = None
) -> Build:
    def build(node: Node, graph: Graph) -> PrimFunc:
        def write(b: Operands) -> Sequence[Phase]:
            return [
                (node.y.elements, lambda i: store(b.outputs[0], i, element(node, b, i))),
            ]

        return phases(node, graph, write, tables(node) if tables else None)

    return build


def mask_bit(mask: Any, i: Expr) -> Expr:
    """Whether element i of a mask is set."""
    return ((mask[i >> 3].astype("int32") >> (i & 7)) & 1) == 1


def _masked(node: Node, b: Operands, i: Expr) -> Expr:
    del node
    dy, mask = b.inputs
    return tirx.if_then_else(mask_bit(mask, i), dy[i], real(0))


def _sum(node: Node, b: Operands, i: Expr) -> Expr:
    factors = (real(float(np.float32(f))) for f in (node.attrs.factor1, node.attrs.factor2))
    first, second = (times(dy[i], f) for dy, f in zip(b.inputs, factors, strict=True))
    return plus(first, second)


def _spread(node: Node, b: Operands, i: Expr) -> Expr:
    axes, shape = node.attrs.axes, node.attrs.shape
    kept = [1 if axis in axes else size for axis, size in enumerate(shape)]
    at = [0 if axis in axes else place for axis, place in enumerate(unravel(i, shape))]
    return b.inputs[0][ravel(at, kept)]


def _mul(node: Node, b: Operands, i: Expr) -> Expr:
    dy, other = b.inputs
    value = node.inputs[1]
    shape = (1,) * (len(node.y.shape) - len(value.type.shape)) + tuple(value.type.shape)
    places = zip(unravel(i, node.y.shape), shape, strict=True)
    factor = other[ravel([0 if size == 1 else place for place, size in places], shape)]
    if value.type.dtype is DType.INT8:
        factor = (factor.astype("int32") - value.type.zero_point).astype("float32")
    return times(dy[i], factor)


def _lookup(node: Node, b: Operands, i: Expr) -> Expr:
    del node
    dy, x, slope = b.inputs
    return times(dy[i], slope[x[i].astype("int32") + 128])


def _gather(node: Node, b: Operands, i: Expr) -> Expr:
    (x,), count = b.inputs, len(node.attrs.channels)
    return x[i // count * node.x.shape[-1] + b.tables["channels"][i % count]]


def _channels(node: Node) -> Mapping[str, Constant]:
    return {"channels": Constant(np.array(node.attrs.channels, np.int32), 16)}


def _clip_mask(node: Node, graph: Graph) -> PrimFunc:
    """A thread for each byte."""
    attrs, count = node.attrs, node.x.elements

    def write(b: Operands) -> Sequence[Phase]:
        (y,) = b.inputs

        def byte(j: Expr) -> None:
            bits = Cell("int32", 0)
            for bit in range(8):
                i = j * 8 + bit
                q = tirx.if_then_else(i < count, y[i].astype("int32"), attrs.low)
                inside = tirx.all(q > attrs.low, q < attrs.high)
                bits.set(bits.value | tirx.if_then_else(inside, 1 << bit, 0))
            store(b.outputs[0], j, bits.value.astype("uint8"))

        return [(node.y.elements, byte)]

    return phases(node, graph, write)


def _reduce(node: Node, graph: Graph) -> PrimFunc:
    """A thread for each sum, its terms in row-major order."""
    given, shape = node.x.shape, node.attrs.shape
    full = (1,) * (len(given) - len(shape)) + tuple(shape)
    summed = [axis for axis, size in enumerate(full) if size == 1]
    terms = [given[axis] for axis in summed]

    def write(b: Operands) -> Sequence[Phase]:
        def one(i: Expr) -> None:
            def term(k: Expr) -> Expr:
                at = unravel(i, full)
                for axis, place in zip(summed, unravel(k, terms), strict=True):
                    at[axis] = place
                return b.inputs[0][ravel(at, given)]

            total = Cell("float32", term(0))
            with T.serial(1, int(np.prod(terms))) as k:
                total.set(plus(total.value, term(k)))
            store(b.outputs[0], i, total.value)

        return [(node.y.elements, one)]

    return phases(node, graph, write)


RULES = (
    *rules("mask_gradient", _each(_masked)),
    *rules("sum_gradients", _each(_sum)),
    *rules("spread_gradient", _each(_spread)),
    *rules("mul_gradient", _each(_mul)),
    *rules("lookup_gradient", _each(_lookup)),
    *rules("gather_channels", _each(_gather, _channels), lambda node, graph: _channels(node)),
    *rules("clip_mask", _clip_mask),
    *rules("reduce_gradient", _reduce),
)

"""Float32 operators on single elements, batch_norm, and those that reduce whole axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ....ir.dtypes import DType
from ....ir.graph import Graph, Node
from ....kernels import Constant
from ....ops.batch_norm import affine, channel_axis
from ...import_tvm import PrimFunc, te
from ..float_math import UNARY, clamp_real
from ..rule import CudaRule, constant_operands, operand_names, unravel
from ..schedules import elementwise, reduction
from .elementwise import broadcast_operands
from .matmul import matmul_function
from .reduce_mean import source

_FLOAT = "float32"
_BINARY: Mapping[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
}


def _binary(node: Node, graph: Graph) -> PrimFunc:
    buffers, operand, lanes = broadcast_operands(node, graph, _FLOAT)
    function = _BINARY[node.op.name]

    def value(i: Any) -> Any:
        return clamp_real(function(operand(0, i), operand(1, i)), node.attrs.clamp)

    return elementwise(buffers, [(node.y.elements, value)], lanes)


def _unary(node: Node, graph: Graph) -> PrimFunc:
    del graph
    x = te.placeholder((node.x.elements,), _FLOAT, "x")
    function = UNARY[node.op.name]
    return elementwise([x], [(node.y.elements, lambda i: function(x[i], node.attrs))])


def _batch_norm(node: Node, graph: Graph) -> PrimFunc:
    del graph
    axis, shape = channel_axis(node.attrs) % node.x.rank, node.x.shape
    x = te.placeholder((node.x.elements,), _FLOAT, "x")
    factor, offset = (te.placeholder((shape[axis],), _FLOAT, name) for name in ("factor", "offset"))

    def value(i: Any) -> Any:
        channel = unravel(i, shape)[axis]
        return x[i] * factor[channel] + offset[channel]

    return elementwise([x, factor, offset], [(node.y.elements, value)])


def _affine(node: Node, graph: Graph) -> Mapping[str, Constant]:
    parameters = (graph.constant(v) for v in node.inputs[1:])
    pair = affine(node.attrs, *parameters)
    return {
        name: Constant(array.astype(np.float32), 16)
        for name, array in zip(("factor", "offset"), pair, strict=True)
    }


def _reduce_mean(node: Node, graph: Graph) -> PrimFunc:
    del graph
    count = math.prod(node.x.shape[axis] for axis in node.attrs.axes)
    x = te.placeholder((node.x.elements,), _FLOAT, "x")
    k = te.reduce_axis((0, count), "k")
    shape = (1, node.y.elements)
    c = te.compute(shape, lambda _, i: te.sum(x[source(node, i, k)], axis=k), name="C")
    factor = te.const(1.0 / count, _FLOAT)
    y = te.compute(shape, lambda r, i: clamp_real(c[r, i] * factor, node.attrs.clamp), name="y")
    return reduction([x], y)


def _matmul(node: Node, graph: Graph) -> PrimFunc:
    names = operand_names(node, graph)
    unique = {
        name: te.placeholder((v.type.elements,), _FLOAT, name)
        for name, v in zip(names, node.inputs, strict=True)
    }
    c = matmul_function(node, [unique[name] for name in names], lambda a, b: a * b)
    y = te.compute(c.shape, lambda i, j: c[i, j], name="y")
    return reduction(list(unique.values()), y)


RULES = (
    *(CudaRule(op, _binary, DType.FLOAT32, constant_operands) for op in _BINARY),
    *(CudaRule(op, _unary, DType.FLOAT32) for op in UNARY),
    CudaRule("batch_norm", _batch_norm, DType.FLOAT32, _affine),
    CudaRule("reduce_mean", _reduce_mean, DType.FLOAT32),
    CudaRule("matmul", _matmul, DType.FLOAT32, constant_operands),
)

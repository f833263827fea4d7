"""Int8 mean over axes: several threads for each output, their sums added in shared memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ....ir.graph import Graph, Node
from ....kernels import Constant
from ...import_tvm import PrimFunc, Schedule, te, tirx
from ..requantize import Requantize, requantize
from ..rule import CudaRule, ravel, unravel

_COLUMNS, _PARTS = 32, 8  # outputs, and threads for each of them, in a block


def _scale(node: Node, graph: Graph) -> Requantize:
    return requantize(node, graph, bias=np.zeros(1, np.int64))


def source(node: Node, out: Any, reduced: Any) -> Any:
    """Flat output index and flat index over the reduced axes → flat input index."""
    axes, shape = node.attrs.axes, node.x.shape
    kept = [axis for axis in range(len(shape)) if axis not in axes]
    indices: list[Any] = [0] * len(shape)
    for group, flat in ((kept, out), (axes, reduced)):
        places: Sequence[Any] = unravel(flat, [shape[axis] for axis in group])
        for axis, place in zip(group, places, strict=True):
            indices[axis] = place
    return ravel(indices, shape)


def _build(node: Node, graph: Graph) -> PrimFunc:
    scale, zero_point = _scale(node, graph), node.x.zero_point
    size, count = node.y.elements, math.prod(node.x.shape[a] for a in node.attrs.axes)
    x = te.placeholder((node.x.elements,), "int8", "x")
    constants = scale.placeholders()
    steps = -(-count // _PARTS)
    columns = -(-size // _COLUMNS) * _COLUMNS
    step, part = te.reduce_axis((0, steps), "step"), te.reduce_axis((0, _PARTS), "part")

    def element(i: Any, p: Any) -> Any:
        reduced = step * _PARTS + p
        value = x[source(node, i, reduced)].astype("int32") - zero_point
        inside: list[Any] = [reduced < count] if count % _PARTS else []
        inside += [i < size] if columns != size else []
        if not inside:
            return value
        return tirx.if_then_else(tirx.all(*inside), value, tirx.const(0, "int32"))

    p = te.compute((columns, _PARTS), lambda i, p: te.sum(element(i, p), axis=step), name="P")
    c = te.compute((columns,), lambda i: te.sum(p[i, part], axis=part), name="C")
    y = te.compute((size,), lambda i: scale(c[i], *(v[0] for v in constants)), name="y")
    return _schedule(te.create_prim_func([x, *constants, y]))


def _schedule(function: PrimFunc) -> PrimFunc:
    s = Schedule(function)
    p, c, y = (s.get_sblock(name) for name in ("P", "C", "y"))
    s.set_scope(p, 0, "shared")
    s.set_scope(c, 0, "local")
    block, column = s.split(s.get_loops(y)[0], [None, _COLUMNS])
    s.bind(block, "blockIdx.x")
    s.bind(column, "threadIdx.x")
    s.compute_at(c, column, preserve_unit_loops=True)
    s.compute_at(p, block, preserve_unit_loops=True)
    i, part, step = s.get_loops(p)[-3:]
    s.reorder(part, i, step)
    s.bind(part, "threadIdx.y")
    s.bind(i, "threadIdx.x")
    s.decompose_reduction(p, step)
    return s.mod["main"]


def _constants(node: Node, graph: Graph) -> dict[str, Constant]:
    return _scale(node, graph).constants


RULES = (CudaRule("reduce_mean", build=_build, constants=_constants),)

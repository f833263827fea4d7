"""Operators that move elements: pad, slice, split, concat, transpose, resize; any element type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ....ir.dtypes import DType
from ....ir.graph import Graph, Node
from ....ops.pad import full_widths
from ....ops.resize import spatial_axes
from ....ops.slice import rows
from ...import_tvm import PrimFunc, te, tirx
from ..rule import CudaRule, constant_operands, operand_names, ravel, unravel
from ..schedules import elementwise

Source = Callable[[Sequence[Any]], list[Any]]  # output indices → input indices


def _moved(node: Node, source: Source) -> PrimFunc:
    """y[i] = x[source(i)]."""
    x = te.placeholder((node.x.elements,), node.x.dtype.value, "x")

    def value(i: Any) -> Any:
        return x[ravel(source(unravel(i, node.y.shape)), node.x.shape)]

    return elementwise([x], [(node.y.elements, value)])


def _transpose(node: Node, graph: Graph) -> PrimFunc:
    del graph
    perm = node.attrs.perm

    def source(out: Sequence[Any]) -> list[Any]:
        return [out[perm.index(axis)] for axis in range(len(perm))]

    return _moved(node, source)


def _slice(node: Node, graph: Graph) -> PrimFunc:
    del graph
    steps = {axis: (start, step) for axis, start, _, step in rows(node.attrs)}

    def source(out: Sequence[Any]) -> list[Any]:
        pairs = [steps.get(axis, (0, 1)) for axis in range(len(out))]
        return [start + i * step for i, (start, step) in zip(out, pairs, strict=True)]

    return _moved(node, source)


def _resize(node: Node, graph: Graph) -> PrimFunc:
    del graph
    scales = dict(zip(spatial_axes(node.attrs), node.attrs.scales, strict=True))

    def source(out: Sequence[Any]) -> list[Any]:
        return [i // scales.get(axis, 1) for axis, i in enumerate(out)]

    return _moved(node, source)


def _pad(node: Node, graph: Graph) -> PrimFunc:
    del graph
    attrs, shape, dtype = node.attrs, node.x.shape, node.x.dtype.value
    widths = full_widths(attrs, len(shape))
    x = te.placeholder((node.x.elements,), dtype, "x")
    filler = tirx.const(attrs.q_value if node.is_integer else attrs.value, dtype)

    def value(i: Any) -> Any:
        inside: list[Any] = []
        indices: list[Any] = []
        for at, size, (before, after) in zip(unravel(i, node.y.shape), shape, widths, strict=True):
            place = at - before if before else at
            if attrs.mode == "edge":
                place = te.max(te.min(place, size - 1), 0)
            elif attrs.mode == "reflect":
                place = te.max(place, -place)
                place = te.min(place, 2 * (size - 1) - place)
            elif before or after:
                inside += [place >= 0, place < size]
            indices.append(place)
        moved = x[ravel(indices, shape)]
        return tirx.if_then_else(tirx.all(*inside), moved, filler) if inside else moved

    return elementwise([x], [(node.y.elements, value)])


def _concat(node: Node, graph: Graph) -> PrimFunc:
    names, axis = operand_names(node, graph), node.attrs.axis
    dtype = node.y.dtype.value
    unique = {
        name: te.placeholder((v.type.elements,), dtype, name)
        for name, v in zip(names, node.inputs, strict=True)
    }
    starts = np.cumsum([0, *(v.type.shape[axis] for v in node.inputs)])

    def value(i: Any) -> Any:
        out = unravel(i, node.y.shape)
        parts: list[Any] = []
        for name, start, v in zip(names, starts, node.inputs, strict=False):
            indices = [*out[:axis], out[axis] - int(start), *out[axis + 1 :]]
            parts.append(unique[name][ravel(indices, v.type.shape)])
        chosen = parts[-1]
        for part, end in zip(parts[-2::-1], starts[-2:0:-1], strict=True):
            chosen = tirx.if_then_else(out[axis] < int(end), part, chosen)
        return chosen

    return elementwise(list(unique.values()), [(node.y.elements, value)])


def _part(node: Node, index: int, x: Any) -> tuple[int, Callable[[Any], Any]]:
    """Elements and function of one output of split."""
    axis, shape = node.attrs.axis, node.outputs[index].type.shape
    start = sum(node.attrs.sizes[:index])

    def value(i: Any) -> Any:
        out = unravel(i, shape)
        indices = [*out[:axis], out[axis] + start, *out[axis + 1 :]]
        return x[ravel(indices, node.x.shape)]

    return node.outputs[index].type.elements, value


def _split(node: Node, graph: Graph) -> PrimFunc:
    del graph
    x = te.placeholder((node.x.elements,), node.x.dtype.value, "x")
    return elementwise([x], [_part(node, i, x) for i in range(len(node.outputs))])


_BUILDERS: dict[str, Callable[[Node, Graph], PrimFunc]] = {
    "concat": _concat,
    "pad": _pad,
    "resize": _resize,
    "slice": _slice,
    "split": _split,
    "transpose": _transpose,
}

RULES = tuple(
    CudaRule(op, build=build, dtype=dtype, constants=constant_operands)
    for op, build in _BUILDERS.items()
    for dtype in (DType.INT8, DType.FLOAT32)
)

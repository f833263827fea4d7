"""Loop nests over broadcast operands, and in-place safety of elementwise kernels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...ir.dtypes import DType, Shape
from ...ir.graph import Graph, Node
from ..kernel import Constant


def broadcast_loops(result: Shape, operands: Sequence[Shape]) -> list[tuple[int, tuple[int, ...]]]:
    """The fewest nested loops over `result`, outermost first: (count, step of each operand).

    A step is in elements, 0 where the operand is broadcast. Axes that all operands walk
    contiguously become one loop; there is always at least one.
    """
    steps: list[list[int]] = []
    for shape in operands:
        padded = (1,) * (len(result) - len(shape)) + tuple(shape)
        steps.append([0 if d == 1 else math.prod(padded[i + 1 :]) for i, d in enumerate(padded)])
    loops: list[tuple[int, tuple[int, ...]]] = []
    for axis, count in enumerate(result):
        if count == 1:
            continue
        step = tuple(s[axis] for s in steps)
        if loops and loops[-1][1] == tuple(s * count for s in step):
            loops[-1] = (loops[-1][0] * count, step)
        else:
            loops.append((count, step))
    return loops or [(1, (0,) * len(operands))]


def nest(result: Shape, operands: Mapping[str, Shape]) -> dict[str, Any]:
    """For `ops/_loops.j2`: the loop counts, and the C expression of each operand's element."""
    loops = broadcast_loops(result, [result, *operands.values()])
    counters = [f"i{i}" for i in range(len(loops))]
    names = ("y", *operands)
    places = [_index(counters, [step[n] for _, step in loops]) for n in range(len(names))]
    elements = [f"{name}[{place}]" for name, place in zip(names, places, strict=True)]
    return {
        "loops": tuple(zip(counters, (count for count, _ in loops), strict=True)),
        "target": elements[0],
        "operands": tuple(elements[1:]),
    }


def _index(counters: Sequence[str], steps: Sequence[int]) -> str:
    terms = [c if s == 1 else f"{c} * {s}" for c, s in zip(counters, steps, strict=True) if s]
    return " + ".join(terms) or "0"


def is_plain(node: Node, graph: Graph) -> bool:
    """Whether all operands are activations of the output's shape."""
    return all(v.type.shape == node.y.shape and not graph.is_constant(v) for v in node.inputs)


def binary_view(node: Node, graph: Graph) -> dict[str, Any]:
    """The nest of a two-operand node. The constant operand, if any, is called `operand`."""
    names: list[str] = []
    activations = 0
    for value in node.inputs:
        constant = graph.is_constant(value)
        names.append("operand" if constant else f"x{activations or ''}")
        activations += not constant
    shapes = dict(zip(names, (v.type.shape for v in node.inputs), strict=True))
    facts = nest(node.y.shape, shapes)
    if node.y.dtype is DType.INT8:
        facts |= {"q_min": node.attrs.q_clamp[0], "q_max": node.attrs.q_clamp[1]}
    else:
        facts |= {"low": node.attrs.clamp[0], "high": node.attrs.clamp[1]}
    return facts


def binary_constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    """The constant operand, if there is one."""
    constant = next((v for v in node.inputs if graph.is_constant(v)), None)
    return {} if constant is None else {"operand": Constant(np.ravel(graph.constant(constant)))}


def fits_int32(bound: int, shift: int) -> bool:
    """Whether sums up to `bound` that are rescaled fit int32, with room for a zero point."""
    return bound * 2.0**shift < 2**30


def in_place(node: Node, index: int) -> int | None:
    """In place for an operand of the output's shape; never for one that is read repeatedly."""
    return 0 if node.inputs[index].type.shape == node.y.shape else None

"""Kernels of operators that only copy: one template serves int8 and float32."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ...ir.dtypes import DType
from ...ir.graph import Graph, Node
from ..kernel import Constant, Kernel

View = Callable[[Node, Graph], Mapping[str, Any]]
Lead = Callable[[Node, int], int | None]


def never(node: Node, index: int) -> int | None:
    """The output must not overlap the input."""
    del node, index
    return None


def movement_kernels(
    op: str,
    view: View,
    lead_bytes: Lead = never,
    constants: Callable[[Node, Graph], Mapping[str, Constant]] = lambda node, graph: {},
) -> tuple[Kernel, ...]:
    """`op`_s8 and `op`_f32 of one view; the templates also see c_type and element_bytes."""

    def typed(node: Node, graph: Graph) -> Mapping[str, Any]:
        dtype = node.y.dtype
        return {**view(node, graph), "c_type": dtype.c, "element_bytes": dtype.bytes}

    def instructions(node: Node, graph: Graph) -> float:
        del graph
        return 4.0 * sum(v.type.elements for v in node.outputs)

    return tuple(
        Kernel(
            name=f"{op}_{suffix}",
            op=op,
            template=f"ops/{op}.c.j2",
            dtype=dtype,
            view=typed,
            constants=constants,
            lead_bytes=lead_bytes,
            instructions=instructions,
        )
        for suffix, dtype in (("s8", DType.INT8), ("f32", DType.FLOAT32))
    )


def merge_axes(axes: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """(size, stride) of nested loops, outermost first, with as few loops as possible.

    Drops loops of one step; joins two where the outer one continues what the inner one ends.
    """
    merged: list[tuple[int, int]] = []
    for size, stride in axes:
        if size == 1:
            continue
        if merged and merged[-1][1] == size * stride:
            merged[-1] = (merged[-1][0] * size, stride)
        else:
            merged.append((size, stride))
    return merged


def strides_of(shape: tuple[int, ...]) -> list[int]:
    """Elements between neighbours along each axis of a dense array."""
    strides = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * shape[axis + 1]
    return strides


def strided_view(shape: tuple[int, ...], strides: list[int], start: int) -> Mapping[str, Any]:
    """For `ops/_strided.c.j2`: a dense output of `shape` that reads at start + Σ index · stride."""
    loops = merge_axes(list(zip(shape, strides, strict=True)))
    run = loops.pop()[0] if loops and loops[-1][1] == 1 else 1
    return {"loops": tuple(loops), "run": run, "start": start}

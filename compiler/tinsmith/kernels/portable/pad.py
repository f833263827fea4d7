"""Portable padding: fills and copies row after row."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ...ir.dtypes import DType
from ...ir.graph import Graph, Node
from ...ops.pad import PadAttrs, full_widths
from ._movement import movement_kernels


def view(node: Node, graph: Graph) -> Mapping[str, Any]:
    """axes and run: see the template; conditions: (index, size) of the padded outer axes."""
    del graph
    attrs: PadAttrs = node.attrs
    axes, run = _axes(node)
    is_float = node.x.dtype is DType.FLOAT32
    return {
        "axes": tuple(axes),
        "run": run,
        "conditions": tuple(
            (f"i{i}", size) for i, (size, b, a, _) in enumerate(axes[:-1]) if b or a
        ),
        "mode": attrs.mode,
        "is_float": is_float,
        "value": attrs.value if is_float else attrs.q_value,
    }


def lead_bytes(node: Node, index: int) -> int | None:
    """A constant border: rows are copied forward, each further ahead of where it is read than the
    one before; the last row decides. Edges and reflections are read again: no overlap."""
    if index != 0 or node.attrs.mode != "constant":
        return None
    axes, run = _axes(node)
    read, written, width = 0, 0, run
    for i, (size, before, after, stride) in reversed(list(enumerate(axes))):
        last = i == len(axes) - 1  # the axis that is copied as a whole row
        written += (before if last else before + size - 1) * width
        read += 0 if last else (size - 1) * stride
        width *= before + size + after
    return (written - read) * node.x.dtype.bytes


def _axes(node: Node) -> tuple[list[tuple[int, int, int, int]], int]:
    """(size, before, after, input stride) down to the last padded axis, neighbours without padding
    joined; and the elements below it."""
    shape = node.x.shape
    widths = full_widths(node.attrs, len(shape))
    last = max((i for i, w in enumerate(widths) if any(w)), default=len(shape) - 1)
    axes: list[tuple[int, int, int, int]] = []
    for axis in range(last + 1):
        size, (before, after) = shape[axis], widths[axis]
        stride = math.prod(shape[axis + 1 :])
        plain = not before and not after
        if plain and axes and not any(axes[-1][1:3]) and axis < last:
            axes[-1] = (axes[-1][0] * size, 0, 0, stride)
        elif not (plain and size == 1 and axis < last):
            axes.append((size, before, after, stride))
    return axes, math.prod(shape[last + 1 :])


KERNELS = movement_kernels("pad", view, lead_bytes)

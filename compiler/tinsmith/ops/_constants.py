"""Evaluating constants while a graph is built or rewritten, and where a quantised axis goes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..ir.dtypes import Array, Quant, Shape, TensorType
from ..ir.graph import Node, Value
from ..ir.interpret import evaluate
from ..ir.opdef import OpDef

MOVEMENTS = ("transpose", "reshape")  # operators that may act on the integers below a dequantize


def evaluate_constant(
    op: OpDef, attrs: Any, inputs: Sequence[Value], arrays: Sequence[Array]
) -> tuple[Array, ...]:
    """The outputs of one operator on constant arrays."""
    types = op.infer([v.type for v in inputs], attrs)
    outputs = tuple(Value(f"y{i}", t) for i, t in enumerate(types))
    return evaluate(Node(op, tuple(inputs), outputs, attrs), arrays)


def moved_quant(op: OpDef, attrs: Any, x: TensorType, shape: Shape) -> Quant | None:
    """The quantisation of `x` after a transpose or reshape to `shape`.

    Raises ValueError when a reshape splits or joins the quantised axis.
    """
    quant = x.quant
    if quant is None or quant.axis is None:
        return quant
    if op.name == "transpose":
        return quant.along(attrs.perm.index(quant.axis))
    before, size = math.prod(x.shape[: quant.axis]), x.shape[quant.axis]
    for axis, d in enumerate(shape):
        if d == size and math.prod(shape[:axis]) == before:
            return quant.along(axis)
    raise ValueError(f"the reshape {list(x.shape)} → {list(shape)} breaks the quantised axis")

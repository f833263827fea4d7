"""What add, sub and mul share: broadcasting, clamps, import and export."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import CompileError
from ..ir.dtypes import Array, Shape, TensorType
from ..ir.graph import Node, Value
from ..ir.opdef import Case
from ._clamp import apply_clamp, export_clamped
from ._onnx import ExportContext, ImportContext, OnnxNode


def infer(types: Sequence[TensorType], attrs: Any) -> Sequence[TensorType]:
    """numpy broadcasting of two tensors of one element type."""
    del attrs
    a, b = types
    if a.dtype is not b.dtype:
        raise ValueError(f"takes two tensors of one type, not {a} and {b}")
    return (TensorType(broadcast(a.shape, b.shape), a.dtype),)


def broadcast(a: Shape, b: Shape) -> Shape:
    """The shape both broadcast to. Raises ValueError when they do not."""
    try:
        return tuple(int(d) for d in np.broadcast_shapes(a, b))
    except ValueError as error:
        raise ValueError(f"{list(a)} and {list(b)} do not broadcast") from error


def float_reference(function: Callable[[Array, Array], Array]) -> Any:
    """function(a, b), clamped, in the operands' type."""

    def reference(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
        y = np.asarray(function(arrays[0], arrays[1])).astype(arrays[0].dtype)
        return (apply_clamp(y, node.attrs.clamp),)

    return reference


def importer(operator: str) -> Callable[[OnnxNode, ImportContext], Sequence[Value]]:
    def rule(node: OnnxNode, out: ImportContext) -> Sequence[Value]:
        return out.emit(out.op(operator), [node.x(0), node.x(1)])

    return rule


def exporter(op_type: str) -> Callable[[Node, ExportContext], None]:
    def rule(node: Node, out: ExportContext) -> None:
        names = [out.name(v) for v in node.inputs]
        export_clamped(node, out, lambda result: out.node(op_type, names, [result]))

    return rule


def require_per_tensor(node: Node) -> tuple[TensorType, TensorType]:
    """The operand types of an int8 node. Raises CompileError when one is quantised per channel."""
    for value in node.inputs:
        if value.type.quant is None or value.type.quant.axis is not None:
            raise CompileError(
                f"operand %{value.name} of {node.op.name} is not quantised per tensor",
                node=str(node.origin),
                expected="one scale and one zero point",
                hint="quantise this constant per tensor",
            )
    return node.inputs[0].type, node.inputs[1].type


def elementwise_operations(node: Node) -> int:
    """One multiply-accumulate per output element, as MLPerf counts them."""
    return node.y.elements


def shared_cases(attrs: Any) -> tuple[Case, ...]:
    """Equal shapes and every kind of broadcast; `attrs` has a relu-like clamp."""
    return (
        Case("equal", ((1, 6, 5, 4), (1, 6, 5, 4))),
        Case("equal_clamped", ((1, 6, 5, 3), (1, 6, 5, 3)), attrs),
        Case("row", ((1, 37), (1, 37))),
        Case("scalar", ((1, 5, 7), (1,))),
        Case("last_axis", ((1, 4, 3, 8), (8,))),
        Case("last_axis_constant", ((1, 4, 3, 8),), params=((8,),)),
        Case("per_channel_constant", ((1, 6, 4, 5),), params=((1, 6, 1, 1),)),
        Case("gate", ((1, 6, 4, 5), (1, 6, 1, 1))),
        Case("both_sides", ((1, 4, 1, 3), (1, 1, 5, 3))),
        Case("scalar_constant", ((1, 24),), params=(np.array(0.375, np.float32),)),
    )

"""matmul: the product of two computed tensors, [..., M, K] · [..., K, N], batches broadcast.

A constant right operand makes `dense` instead. Lowered int8: multiplier, shift in the attributes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..ir.dtypes import Array, TensorType
from ..ir.graph import Node, Value
from ..ir.opdef import Case, IntegerRule, OpDef
from ..ir.rewrite import Rewriter
from ..quant.arithmetic import quantize_multiplier, requantize, saturate
from ._binary import broadcast, require_per_tensor
from ._onnx import ImportContext, OnnxNode, export_simple
from .dense import emit_dense, transpose


@dataclass(frozen=True)
class MatmulAttrs:
    """Set by lowering: multiplier, shift of s1·s2 / s_y."""

    multiplier: int = 0
    shift: int = 0


def infer(types: Sequence[TensorType], attrs: MatmulAttrs) -> Sequence[TensorType]:
    del attrs
    a, b = types
    if a.rank < 2 or b.rank < 2 or a.shape[-1] != b.shape[-2]:
        raise ValueError(f"cannot multiply {a} by {b}")
    if a.dtype is not b.dtype:
        raise ValueError(f"takes two tensors of one type, not {a} and {b}")
    batch = broadcast(a.shape[:-2], b.shape[:-2])
    return (TensorType((*batch, a.shape[-2], b.shape[-1]), a.dtype),)


def reference(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """a · b, in the operands' type."""
    del node
    a, b = arrays
    return (np.matmul(a, b).astype(a.dtype),)


def integer_reference(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """saturate(requantize(Σ (a − z_a)·(b − z_b)) + z_y); sums are exact in float64."""
    attrs: MatmulAttrs = node.attrs
    a, b = (
        v.astype(np.float64) - i.type.zero_point for v, i in zip(arrays, node.inputs, strict=True)
    )
    acc = np.matmul(a, b).astype(np.int64)
    return (saturate(requantize(acc, attrs.multiplier, attrs.shift) + node.y.zero_point),)


def lower(node: Node, rewriter: Rewriter) -> None:
    """Sets the multiplier and shift."""
    a, b = require_per_tensor(node)
    multiplier, shift = quantize_multiplier(a.scale * b.scale / node.y.scale)
    attrs = replace(node.attrs, multiplier=multiplier, shift=shift)
    rewriter.emit(OP, node.inputs, attrs, origin=node.origin, outputs=node.outputs)


def macs(node: Node) -> int:
    return node.y.elements * node.x.shape[-1]


def import_matmul(node: OnnxNode, out: ImportContext) -> Sequence[Value]:
    """ONNX MatMul; with a constant matrix on the right it becomes dense."""
    a, b = node.x(0), node.x(1)
    if a.type.rank == 0 or b.type.rank == 0:
        node.fail(f"cannot multiply {a.type} by {b.type}")
    if b.type.rank == 2 and out.is_weight(b):
        return emit_dense(a, transpose(b, out, ".w"), None, out)
    if a.type.rank > 1 and b.type.rank > 1:
        return out.emit(OP, [a, b])
    return _with_vectors(a, b, out)


def _with_vectors(a: Value, b: Value, out: ImportContext) -> Sequence[Value]:
    """A vector on the left is a row, on the right a column; the extra axis is dropped again."""
    reshape = out.op("reshape")
    left, right = a.type.shape, b.type.shape
    if len(left) == 1:
        a = out.emit(reshape, [a], reshape.attrs((1, *left)), ".row")[0]
    if len(right) == 1:
        b = out.emit(reshape, [b], reshape.attrs((*right, 1)), ".column")[0]
    (y,) = out.emit(OP, [a, b], None, ".product")
    shape = list(y.type.shape)
    if len(right) == 1:
        del shape[-1]
    if len(left) == 1:
        del shape[-1 if len(right) == 1 else -2]
    return out.emit(reshape, [y], reshape.attrs(tuple(shape)))


OP = OpDef(
    name="matmul",
    attrs=MatmulAttrs,
    infer=infer,
    reference=reference,
    integer=IntegerRule(lower=lower, reference=integer_reference),
    macs=macs,
    onnx_import={"MatMul": import_matmul},
    onnx_export=export_simple("MatMul"),
    cases=(
        Case("square", ((6, 6), (6, 6))),
        Case("wide", ((3, 17), (17, 5))),
        Case("batched", ((1, 2, 4, 8), (1, 2, 8, 5))),
        Case("left_broadcast", ((4, 8), (1, 3, 8, 5))),
        Case("right_broadcast", ((2, 3, 4, 8), (3, 8, 2))),
    ),
)

"""softmax along one axis.

Integer form, for the N entries of a row with maximum q_max: e_i = table[q_max − q_i], where
table[d] = round(exp(−d·s_x)·2^f), f = min(23, ⌊log2((2^32 − 1)/N)⌋), so that Σe fits uint32; then
y_i = ⌊(e_i·numerator + Σe·2^(bits−1)) / (Σe·2^bits)⌋ + z_y, with numerator/2^bits = 1/s_y (256/1
for the fixed output quantisation). Within 1 LSB of the correctly rounded float softmax, N ≤ 4096.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..errors import CompileError
from ..ir.dtypes import Array, TensorType
from ..ir.graph import Node, Value
from ..ir.opdef import Case, IntegerRule, OpDef, no_macs
from ..ir.rewrite import Rewriter
from ..quant.arithmetic import saturate
from ._onnx import ExportContext, ImportContext, OnnxNode

_MAX_FRACTION_BITS = 23
_MAX_BITS = 24


@dataclass(frozen=True)
class SoftmaxAttrs:
    """axis: not negative. Lowered: numerator / 2^bits is 1 / s_y."""

    axis: int = 1
    numerator: int = 0
    bits: int = 0


def infer(types: Sequence[TensorType], attrs: SoftmaxAttrs) -> Sequence[TensorType]:
    x = types[0]
    if not 0 <= attrs.axis < x.rank:
        raise ValueError(f"axis {attrs.axis} is not an axis of {x}")
    return (TensorType(x.shape, x.dtype),)


def reference(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """exp(x − max) / Σ exp(x − max), computed in float64."""
    (x,) = arrays
    axis = node.attrs.axis
    e = np.exp(x.astype(np.float64) - x.max(axis, keepdims=True))
    return ((e / e.sum(axis, keepdims=True)).astype(np.float32),)


def integer_reference(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """The integer form of the module's docstring."""
    attrs: SoftmaxAttrs = node.attrs
    x, table = arrays[0].astype(np.int64), arrays[1].astype(np.int64)
    e = table[x.max(attrs.axis, keepdims=True) - x]
    total = e.sum(attrs.axis, keepdims=True) << attrs.bits
    return (saturate((e * attrs.numerator + (total >> 1)) // total + node.y.zero_point),)


def lower(node: Node, rewriter: Rewriter) -> None:
    """Appends the table of exponentials, int32[256]."""
    x = node.inputs[0]
    largest = (2**32 - 1) // x.type.shape[node.attrs.axis]
    fraction_bits = min(_MAX_FRACTION_BITS, largest.bit_length() - 1)
    exact = np.exp(-np.arange(256) * x.type.scale) * 2.0**fraction_bits
    table = np.floor(exact + 0.5).astype(np.int32)
    numerator, bits = _reciprocal(node.y.scale)
    if numerator >= 2**31:
        raise CompileError(
            f"the output scale {node.y.scale} of softmax is too small", node=str(node.origin)
        )
    attrs = replace(node.attrs, numerator=numerator, bits=bits)
    constant = rewriter.constant(f"{node.name}.exp", table)
    rewriter.emit(OP, [x, constant], attrs, origin=node.origin, outputs=node.outputs)


def _reciprocal(scale: float) -> tuple[int, int]:
    """(numerator, bits) with numerator / 2^bits = 1 / scale, as few bits as are exact."""
    for bits in range(_MAX_BITS + 1):
        value = 2.0**bits / scale
        if value == math.floor(value) or value >= 2**24:
            break
    else:
        bits = _MAX_BITS
    return round(2.0**bits / scale), bits


def import_softmax(node: OnnxNode, out: ImportContext) -> Sequence[Value]:
    """ONNX Softmax. Before opset 13 all axes from `axis` on are one row."""
    x = node.x(0)
    shape = x.type.shape
    axis = int(node.attr("axis", -1 if node.opset >= 13 else 1))
    axis += len(shape) if axis < 0 else 0
    if not 0 <= axis < len(shape):
        node.fail(f"axis {axis} is not an axis of {x.type}")
    if node.opset >= 13 or math.prod(shape[axis + 1 :]) == 1:
        return out.emit(OP, [x], SoftmaxAttrs(axis))
    reshape = out.op("reshape")
    rows = (math.prod(shape[:axis]), math.prod(shape[axis:]))
    (flat,) = out.emit(reshape, [x], reshape.attrs(rows), ".rows")
    (y,) = out.emit(OP, [flat], SoftmaxAttrs(1), ".softmax")
    return out.emit(reshape, [y], reshape.attrs(shape))


def import_log_softmax(node: OnnxNode, out: ImportContext) -> Sequence[Value]:
    """Refused: it belongs into the training loss, and its int8 form would lose the ranking."""
    del out
    node.fail("LogSoftmax is not supported; end the model in Softmax or in its logits")


def export(node: Node, out: ExportContext) -> None:
    out.node(
        "Softmax", [out.name(node.inputs[0])], [out.name(node.outputs[0])], axis=node.attrs.axis
    )


OP = OpDef(
    name="softmax",
    attrs=SoftmaxAttrs,
    infer=infer,
    reference=reference,
    integer=IntegerRule(lower=lower, reference=integer_reference, output=(1 / 256, -128)),
    macs=no_macs,
    onnx_import={"Softmax": import_softmax, "LogSoftmax": import_log_softmax},
    onnx_export=export,
    cases=(
        Case("ten", ((1, 10),), data=(-6.0, 6.0)),
        Case("two", ((1, 2),), data=(-3.0, 3.0)),
        Case("rows", ((3, 17),), SoftmaxAttrs(1), data=(-4.0, 4.0)),
        Case("thousand", ((1, 1000),), data=(-10.0, 10.0)),
        Case("middle_axis", ((2, 5, 3),), SoftmaxAttrs(1), data=(-5.0, 5.0)),
        Case("flat", ((1, 12),), data=(-0.01, 0.01)),
    ),
)

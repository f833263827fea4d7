"""dense: y[..., O] = x[..., K] · w[O, K]ᵀ + bias[O], with a fused clamp.

Lowered int8: dense(x, w, bias, multiplier[O], shift[O]), per output channel, like conv2d.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..ir.dtypes import Array, TensorType
from ..ir.graph import Node, Value
from ..ir.opdef import Absent, Case, IntegerRule, OpDef, WeightInput
from ..quant.arithmetic import requantize, saturate
from ._clamp import INF, UNBOUNDED, Clamp, apply_clamp, export_clamped
from ._onnx import ExportContext, ImportContext, OnnxNode
from ._rescale import lower_weighted


@dataclass(frozen=True)
class DenseAttrs:
    """clamp: real bounds of a fused activation; q_clamp: the same in the output's integers."""

    clamp: Clamp = UNBOUNDED
    q_clamp: tuple[int, int] = (-128, 127)


def infer(types: Sequence[TensorType], attrs: DenseAttrs) -> Sequence[TensorType]:
    del attrs
    if len(types) not in (3, 5):
        raise ValueError(f"takes 3 inputs, or 5 when lowered, not {len(types)}")
    x, w, bias = types[:3]
    if x.rank < 1 or w.rank != 2 or x.shape[-1] != w.shape[1]:
        raise ValueError(f"cannot multiply {x} by the transpose of {w}")
    out = w.shape[0]
    if any(t.shape != (out,) for t in (bias, *types[3:])):
        raise ValueError(f"expected a bias of {out} elements, not {bias}")
    return (TensorType((*x.shape[:-1], out), x.dtype),)


def reference(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """x·wᵀ + bias, clamped; float32."""
    x, w, bias = arrays
    return (apply_clamp((x @ w.T + bias).astype(np.float32), node.attrs.clamp),)


def integer_reference(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """clamp(requantize(Σ (x − z_x)·w + bias) + z_y); sums are exact in float64."""
    x, w, bias, multiplier, shift = arrays
    centred = x.astype(np.float64) - node.x.zero_point
    acc = (centred @ w.astype(np.float64).T).astype(np.int64) + bias
    y = requantize(acc, multiplier, shift) + node.y.zero_point
    return (saturate(y, *node.attrs.q_clamp),)


def macs(node: Node) -> int:
    return node.y.elements * node.x.shape[-1]


def import_gemm(node: OnnxNode, out: ImportContext) -> Sequence[Value]:
    """ONNX Gemm: alpha·A·B + beta·C. A constant B becomes dense, a computed one matmul."""
    alpha, beta = float(node.attr("alpha", 1.0)), float(node.attr("beta", 1.0))
    x, w = node.x(0), node.x(1)
    c = node.inputs[2] if len(node.inputs) > 2 else None
    if x.type.rank != 2 or w.type.rank != 2:
        node.fail(f"expected two matrices, got {x.type} and {w.type}")
    if node.attr("transA", 0):
        x = transpose(x, out, ".a")
    trans_b = bool(node.attr("transB", 0))
    if c is not None and beta != 1:
        c = _scaled(node, c, beta, out) if beta else None
    if not out.is_weight(w):
        w = transpose(w, out, ".b") if trans_b else w
        return _sum(out.emit(out.op("matmul"), [x, w], None, ".product")[0], alpha, c, out)
    if alpha != 1:
        w = _scaled(node, w, alpha, out)
    return emit_dense(x, w if trans_b else transpose(w, out, ".w"), c, out)


def emit_dense(x: Value, w: Value, c: Value | None, out: ImportContext) -> Sequence[Value]:
    """dense with the addend as its bias where it is one constant per output channel."""
    width = w.type.shape[0]
    bias = None if c is None else _as_bias(c, width, out)
    if bias is not None:
        return out.emit(OP, [x, w, bias])
    zeros = out.constant("bias", np.zeros(width, np.float32))
    if c is None:
        return out.emit(OP, [x, w, zeros])
    return out.emit(out.op("add"), [out.emit(OP, [x, w, zeros], None, ".product")[0], c])


def transpose(value: Value, out: ImportContext, suffix: str) -> Value:
    """A matrix with its axes swapped; of a weight, the integers below its dequantize are."""
    op = out.op("transpose")
    return out.emit(op, [value], op.attrs((1, 0)), suffix)[0]


def _as_bias(c: Value, width: int, out: ImportContext) -> Value | None:
    if not out.is_weight(c):
        return None
    if c.type.shape == (width,):
        return c
    if c.type.shape == (1, width):
        op = out.op("reshape")
        return out.emit(op, [c], op.attrs((width,)), ".bias")[0]
    array = out.array(c)
    if array is not None and array.size == 1:
        return out.constant("bias", np.full(width, array.reshape(()), array.dtype))
    return None


def _scaled(node: OnnxNode, value: Value, factor: float, out: ImportContext) -> Value:
    array = out.array(value)
    if array is None:
        node.fail("alpha and beta other than 1 are supported for float constants only")
    return out.constant(f"{value.name}.scaled", (array * np.float32(factor)).astype(np.float32))


def _sum(product: Value, alpha: float, c: Value | None, out: ImportContext) -> Sequence[Value]:
    if alpha != 1:
        factor = out.constant("alpha", np.array(alpha, np.float32))
        product = out.emit(out.op("mul"), [product, factor], None, ".scaled")[0]
    return (product,) if c is None else out.emit(out.op("add"), [product, c])


def export(node: Node, out: ExportContext) -> None:
    """Gemm for a matrix; MatMul and Add for anything else."""
    x, w, bias = (out.name(v) for v in node.inputs[:3])

    def write(result: str) -> None:
        if node.x.rank == 2:
            out.node("Gemm", [x, w, bias], [result], transB=1)
            return
        transposed, product = out.temporary("weight"), out.temporary("product")
        out.node("Transpose", [w], [transposed], perm=(1, 0))
        out.node("MatMul", [x, transposed], [product])
        out.node("Add", [product, bias], [result])

    export_clamped(node, out, write)


def weight_axis(attrs: Any) -> int:
    """Quantised per output channel."""
    del attrs
    return 0


OP = OpDef(
    name="dense",
    attrs=DenseAttrs,
    infer=infer,
    reference=reference,
    integer=IntegerRule(
        lower=lower_weighted,
        reference=integer_reference,
        weight=WeightInput(index=1, axis=weight_axis, bias_index=2),
    ),
    macs=macs,
    onnx_import={"Gemm": import_gemm},
    onnx_export=export,
    cases=(
        Case("small", ((1, 12),), params=((5, 12), (5,))),
        Case("relu", ((1, 64),), params=((32, 64), (32,)), attrs=DenseAttrs((0.0, INF))),
        Case("odd", ((1, 37),), params=((13, 37), (13,)), attrs=DenseAttrs((0.0, 6.0))),
        Case("batch", ((3, 20),), params=((6, 20), (6,))),
        Case("sequence", ((1, 4, 9),), params=((7, 9), (7,))),
        Case("one_output", ((1, 50),), params=((1, 50), (1,))),
    ),
    gradient=Absent("select_updates turns it into conv2d_trainable"),
)

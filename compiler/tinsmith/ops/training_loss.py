"""Losses on int8 outputs: the loss and its gradient per unit of the output, float32.

softmax_cross_entropy(logits, label int32[1], exponentials[256]) {scale} → loss[1], dlogits
    m = max q;  e_i = exponentials[m − q_i] = exp(−(m − q_i) · scale);  S = Σ e_i in index order
    dlogits_i = (e_i / S − [i = label]) · scale;   loss = ln(S) + float32(m − q_label) · scale
mse_loss(y, target int8) {scale} → loss[1], dy
    d = q − target;  loss = float32(Σ d²) · float32(scale² / n)
    dy = float32(d) · float32(2 · scale² / n)

Every float32 operation is a single one, in the order written. ln is `natural_log`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import BadInput
from ..ir.dtypes import Array, DType, TensorType
from ..ir.graph import Node
from ._gradient import training_op

_F = np.float32
_LN2 = _F(0.6931471805599453)
_ROOT2 = _F(1.4142135623730951)
_ATANH = (_F(1 / 9), _F(1 / 7), _F(1 / 5), _F(1 / 3))  # ln(f) = 2·atanh((f − 1)/(f + 1))


@dataclass(frozen=True)
class LossAttrs:
    """scale: of the output."""

    scale: float = 1.0


def natural_log(x: np.float32) -> np.float32:
    """ln of a float32 ≥ 1 within 2 ulp, by single float32 operations."""
    bits = int(_F(x).view(np.int32))
    k = (bits >> 23) - 127
    f = np.int32((bits & 0x7FFFFF) | (127 << 23)).view(np.float32)
    if f > _ROOT2:
        f, k = f * _F(0.5), k + 1
    s = (f - _F(1)) / (f + _F(1))
    z = s * s
    p = _ATANH[0]
    for c in _ATANH[1:]:
        p = p * z + c
    double = s + s
    return _F(k) * _LN2 + (double + double * (z * p))


def exponentials(scale: float) -> Array:
    """float32[256]: exp(−d · scale)."""
    return np.exp(-np.arange(256) * scale).astype(np.float32)


def infer_cross_entropy(types: Sequence[TensorType], attrs: LossAttrs) -> Sequence[TensorType]:
    del attrs
    logits, label, table = types
    if logits.dtype is not DType.INT8 or logits.elements != max(logits.shape, default=0):
        raise ValueError(f"takes one row of int8 logits, not {logits}")
    if label != TensorType((1,), DType.INT32) or table.shape != (256,):
        raise ValueError(f"takes a label and 256 exponentials, not {label} and {table}")
    return (TensorType((1,), DType.FLOAT32), TensorType(logits.shape, DType.FLOAT32))


def cross_entropy(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """Raises BadInput for a label out of range."""
    logits, label, table = arrays
    q = logits.reshape(-1).astype(np.int64)
    index = int(label[0])
    if not 0 <= index < q.size:
        raise BadInput(f"label {index} is out of range", expected=f"0 … {q.size - 1}")
    scale = _F(node.attrs.scale)
    top = q.max()
    e = table[top - q]
    total = np.add.accumulate(e, dtype=np.float32)[-1]
    p = e / total
    p[index] = p[index] - _F(1)
    loss = natural_log(total) + _F(top - q[index]) * scale
    return np.array([loss], np.float32), (p * scale).reshape(logits.shape)


def infer_mse(types: Sequence[TensorType], attrs: LossAttrs) -> Sequence[TensorType]:
    del attrs
    y, target = types
    if y.dtype is not DType.INT8 or target.dtype is not DType.INT8 or y.shape != target.shape:
        raise ValueError(f"takes two int8 tensors of one shape, not {y} and {target}")
    if y.elements * 255**2 >= 2**31:
        raise ValueError(f"{y} has too many elements for a 32-bit sum of squares")
    return (TensorType((1,), DType.FLOAT32), TensorType(y.shape, DType.FLOAT32))


def mse(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    y, target = (a.astype(np.int64) for a in arrays)
    d = y - target
    square = node.attrs.scale**2 / d.size
    loss = _F(int((d * d).sum())) * _F(square)
    return np.array([loss], np.float32), d.astype(np.float32) * _F(2 * square)


OPS = (
    training_op("softmax_cross_entropy", infer_cross_entropy, cross_entropy, LossAttrs),
    training_op("mse_loss", infer_mse, mse, LossAttrs),
)

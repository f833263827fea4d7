"""Losses on float32 outputs: the loss and its gradient.

float_cross_entropy(logits, label int32[1]) → loss[1], dlogits
    m = max x;  e_i = exp(x_i − m);  S = Σ e_i in index order
    dlogits_i = e_i / S − [i = label];   loss = ln(S) + (m − x_label)
float_mse(y, target) → loss[1], dy
    d = y − target;  loss = Σ d² in row-major order · float32(1 / n);  dy = d · float32(2 / n)

Every operation is a single one of float32, in the order written; exp is `exponential`, ln
`training_loss.natural_log`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import BadInput
from ..ir.dtypes import Array, DType, TensorType
from ..ir.graph import Node
from ..ir.opdef import NoAttrs
from ._gradient import training_op
from .training_loss import natural_log

_F = np.float32
_LOG2_E, _LN2_HIGH, _LN2_LOW = _F(1.4426950408889634), _F(0.693359375), _F(-2.12194440e-4)
_ROUND = _F(12582912.0)  # 1.5 · 2^23: what is added to it loses its fraction
_EXP = tuple(map(_F, (1 / 720, 1 / 120, 1 / 24, 1 / 6, 0.5, 1.0, 1.0)))
_LOWEST = _F(-87.0)


def exponential(x: Array) -> Array:
    """e^x of float32 x ≤ 0 within 4 ulp, by single float32 operations; below −87 as of −87."""
    x = np.where(x > _LOWEST, x, _LOWEST)
    k = (x * _LOG2_E + _ROUND) - _ROUND
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW
    p = np.full_like(r, _EXP[0])
    for c in _EXP[1:]:
        p = p * r + c
    scale = (k.astype(np.int32) + np.int32(127)) << np.int32(23)
    return p * scale.view(np.float32)


def infer_cross_entropy(types: Sequence[TensorType], attrs: NoAttrs) -> Sequence[TensorType]:
    del attrs
    logits, label = types
    if logits.dtype is not DType.FLOAT32 or logits.elements != max(logits.shape, default=0):
        raise ValueError(f"takes one row of float32 logits, not {logits}")
    if label != TensorType((1,), DType.INT32):
        raise ValueError(f"takes a label, not {label}")
    return (TensorType((1,), DType.FLOAT32), TensorType(logits.shape, DType.FLOAT32))


def cross_entropy(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """Raises BadInput for a label out of range."""
    del node
    x, index = arrays[0].reshape(-1), int(arrays[1][0])
    if not 0 <= index < x.size:
        raise BadInput(f"label {index} is out of range", expected=f"0 … {x.size - 1}")
    with np.errstate(over="ignore", invalid="ignore"):
        top = x[0]
        for value in x[1:]:
            top = value if value > top else top
        e = exponential(x - top)
        total = np.add.accumulate(e, dtype=np.float32)[-1]
        p = e / total
        p[index] = p[index] - _F(1)
        loss = natural_log(total) + (top - x[index])
    return np.array([loss], np.float32), p.reshape(arrays[0].shape)


def infer_mse(types: Sequence[TensorType], attrs: NoAttrs) -> Sequence[TensorType]:
    del attrs
    y, target = types
    if y.dtype is not DType.FLOAT32 or target.dtype is not y.dtype or y.shape != target.shape:
        raise ValueError(f"takes two float32 tensors of one shape, not {y} and {target}")
    return (TensorType((1,), DType.FLOAT32), TensorType(y.shape, DType.FLOAT32))


def mse(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    del node
    with np.errstate(over="ignore", invalid="ignore"):
        d = arrays[0] - arrays[1]
        total = np.add.accumulate((d * d).reshape(-1))[-1]
        return np.array([total * _F(1 / d.size)], np.float32), d * _F(2 / d.size)


OPS = (
    training_op("float_cross_entropy", infer_cross_entropy, cross_entropy),
    training_op("float_mse", infer_mse, mse),
)

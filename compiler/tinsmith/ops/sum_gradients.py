"""Gradients that meet, spread or shrink. All are float32, one IEEE operation at a time.

sum_gradients(dy1, dy2) {factor1, factor2} → dy1 · factor1 + dy2 · factor2
spread_gradient(dy) {shape} → dy repeated to `shape` (of a mean's input); dy has 1 where it repeats,
    or lacks these axes when `axes` says so
reduce_gradient(dy) {shape} → summed over the axes along which an operand was broadcast, every sum
    in the row-major order of its terms
mul_gradient(dy, other) → dy · float32(other − z): of one factor of a product, the other broadcast;
    z is 0 where `other` is float32
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..ir.dtypes import Array, DType, Shape, TensorType
from ..ir.graph import Node
from ..ir.opdef import NoAttrs
from ._gradient import training_op


@dataclass(frozen=True)
class SumGradientsAttrs:
    """Factors of the first and second operand, used as float32."""

    factor1: float = 1.0
    factor2: float = 1.0


@dataclass(frozen=True)
class SpreadGradientAttrs:
    """shape: of the output. axes: those that are repeated."""

    shape: Shape = ()
    axes: tuple[int, ...] = ()


def infer_sum(types: Sequence[TensorType], attrs: SumGradientsAttrs) -> Sequence[TensorType]:
    del attrs
    a, b = types
    if a.shape != b.shape or DType.INT8 in (a.dtype, b.dtype):
        raise ValueError(f"cannot add the gradients {a} and {b}")
    return (TensorType(a.shape, DType.FLOAT32),)


def sum_gradients(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    attrs: SumGradientsAttrs = node.attrs
    a, b = arrays
    return (a * np.float32(attrs.factor1) + b * np.float32(attrs.factor2),)


def infer_spread(types: Sequence[TensorType], attrs: SpreadGradientAttrs) -> Sequence[TensorType]:
    (dy,) = types
    kept = [d for i, d in enumerate(attrs.shape) if i not in attrs.axes]
    if [d for d in dy.shape if d != 1] != [d for d in kept if d != 1]:
        raise ValueError(f"cannot repeat {dy} along {attrs.axes} to {list(attrs.shape)}")
    return (TensorType(attrs.shape, DType.FLOAT32),)


def spread(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    attrs: SpreadGradientAttrs = node.attrs
    kept = [1 if i in attrs.axes else d for i, d in enumerate(attrs.shape)]
    return (np.ascontiguousarray(np.broadcast_to(arrays[0].reshape(kept), attrs.shape)),)


@dataclass(frozen=True)
class ReduceGradientAttrs:
    """shape: of the operand; aligned with the gradient's last axes."""

    shape: Shape = ()


def infer_reduce(types: Sequence[TensorType], attrs: ReduceGradientAttrs) -> Sequence[TensorType]:
    (dy,) = types
    if np.broadcast_shapes(dy.shape, attrs.shape) != dy.shape:
        raise ValueError(f"{list(attrs.shape)} does not broadcast to {dy}")
    return (TensorType(attrs.shape, DType.FLOAT32),)


def reduce(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    shape: Shape = node.attrs.shape
    (dy,) = arrays
    full = (1,) * (dy.ndim - len(shape)) + tuple(shape)
    summed = [i for i, d in enumerate(full) if d == 1]
    kept = [i for i in range(dy.ndim) if i not in summed]
    terms = dy.transpose(*summed, *kept).reshape(-1, int(np.prod(shape)))
    return (np.add.accumulate(terms, axis=0, dtype=dy.dtype)[-1].reshape(shape),)


def infer_mul(types: Sequence[TensorType], attrs: NoAttrs) -> Sequence[TensorType]:
    del attrs
    dy, other = types
    fits = np.broadcast_shapes(dy.shape, other.shape) == dy.shape
    if not fits or other.dtype not in (DType.INT8, DType.FLOAT32):
        raise ValueError(f"cannot multiply {dy} by {other}")
    return (TensorType(dy.shape, DType.FLOAT32),)


def mul(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    dy, other = arrays
    if node.inputs[1].type.dtype is DType.FLOAT32:
        return (dy * other,)
    return (dy * (other.astype(np.int32) - node.inputs[1].type.zero_point).astype(np.float32),)


OPS = (
    training_op("sum_gradients", infer_sum, sum_gradients, SumGradientsAttrs),
    training_op("spread_gradient", infer_spread, spread, SpreadGradientAttrs),
    training_op("reduce_gradient", infer_reduce, reduce, ReduceGradientAttrs),
    training_op("mul_gradient", infer_mul, mul),
)

"""A float32 gradient as int8 with one power-of-two scale per tensor, and the masks of clamps.

quantize_gradient(dy, factor[C] [, mask]) → g int8, exponent int32[1]:
    t = (dy where the mask is set, else 0) · factor[c]
    e = the smallest integer ≥ −126 with max|t| ≤ 127 · 2^e;    g = round_half_even(t · 2^−e)
A t that is not finite makes g all 0, e = −126.

clip_mask(y) {low, high} → uint8[⌈n/8⌉]: bit i of byte j is element 8j + i: low < y < high.
mask_gradient(dy, mask) → dy where the mask is set, 0 elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..ir.dtypes import Array, DType, TensorType
from ..ir.graph import Node
from ..ir.opdef import NoAttrs
from ._gradient import power_of_two, shared_exponent, training_op, unpack_mask


@dataclass(frozen=True)
class ClipMaskAttrs:
    """Both bounds are outside."""

    low: int = -128
    high: int = 127


def mask_bytes(elements: int) -> int:
    return -(-elements // 8)


def infer_quantize(types: Sequence[TensorType], attrs: NoAttrs) -> Sequence[TensorType]:
    del attrs
    dy, factor = types[:2]
    if dy.dtype is not DType.FLOAT32 or factor.shape != dy.shape[-1:]:
        raise ValueError(f"cannot scale {dy} by {factor}")
    _check_masks(dy, types[2:])
    return (TensorType(dy.shape, DType.INT8), TensorType((1,), DType.INT32))


def quantize(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """float32 [..., C] → int8 of the same shape and int32[1]."""
    del node
    dy, factor = arrays[:2]
    t = dy * factor
    if len(arrays) > 2:
        t = np.where(unpack_mask(arrays[2], dy.shape), t, np.float32(0))
    e = shared_exponent(t)
    finite = bool(np.isfinite(t).all())
    g = np.rint(t * power_of_two(-e)) if finite else np.zeros_like(t)
    return g.astype(np.int8), np.array([e], np.int32)


def infer_clip_mask(types: Sequence[TensorType], attrs: ClipMaskAttrs) -> Sequence[TensorType]:
    del attrs
    (y,) = types
    if y.dtype is not DType.INT8:
        raise ValueError(f"takes an int8 tensor, not {y}")
    return (TensorType((mask_bytes(y.elements),), DType.UINT8),)


def clip_mask(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """int8 → packed bits."""
    (y,) = arrays
    return (np.packbits((y > node.attrs.low) & (y < node.attrs.high), bitorder="little"),)


def infer_mask_gradient(types: Sequence[TensorType], attrs: NoAttrs) -> Sequence[TensorType]:
    del attrs
    dy = types[0]
    _check_masks(dy, types[1:])
    return (TensorType(dy.shape, DType.FLOAT32),)


def mask_gradient(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """float32 of the same shape."""
    del node
    dy, mask = arrays
    return (np.where(unpack_mask(mask, dy.shape), dy, np.float32(0)),)


def _check_masks(dy: TensorType, masks: Sequence[TensorType]) -> None:
    for mask in masks:
        if mask.dtype is not DType.UINT8 or mask.elements != mask_bytes(dy.elements):
            raise ValueError(f"{mask} is not a mask of {dy}")


OPS = (
    training_op("quantize_gradient", infer_quantize, quantize),
    training_op("clip_mask", infer_clip_mask, clip_mask, ClipMaskAttrs),
    training_op("mask_gradient", infer_mask_gradient, mask_gradient),
)

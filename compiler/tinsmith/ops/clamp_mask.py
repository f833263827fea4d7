"""The bits of a float32 value that is inside a clamp, as clip_mask has them of an int8 one.

clamp_mask(y) {low, high} → uint8[⌈n/8⌉]: bit i of byte j is element 8j + i: low < y < high.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..ir.dtypes import Array, DType, TensorType
from ..ir.graph import Node
from ._clamp import INF
from ._gradient import training_op
from .quantize_gradient import mask_bytes


@dataclass(frozen=True)
class ClampMaskAttrs:
    """Both bounds are outside; used as float32."""

    low: float = -INF
    high: float = INF


def infer(types: Sequence[TensorType], attrs: ClampMaskAttrs) -> Sequence[TensorType]:
    del attrs
    (y,) = types
    if y.dtype is not DType.FLOAT32:
        raise ValueError(f"takes a float32 tensor, not {y}")
    return (TensorType((mask_bytes(y.elements),), DType.UINT8),)


def reference(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """float32 → packed bits."""
    (y,) = arrays
    low, high = np.float32(node.attrs.low), np.float32(node.attrs.high)
    return (np.packbits((y > low) & (y < high), bitorder="little"),)


OP = training_op("clamp_mask", infer, reference, ClampMaskAttrs)

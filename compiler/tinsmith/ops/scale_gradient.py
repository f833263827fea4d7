"""The gradient of a convolution's sums as float32: what quantize_gradient is where gradients stay
float32.

scale_gradient(dy, factor[C] [, mask]) → g float32:
    g = (dy where the mask is set, else 0) · factor[c];  0 where that is not finite
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..ir.dtypes import Array, TensorType
from ..ir.graph import Node
from ..ir.opdef import NoAttrs
from ._gradient import training_op, unpack_mask
from .quantize_gradient import infer_quantize


def infer(types: Sequence[TensorType], attrs: NoAttrs) -> Sequence[TensorType]:
    infer_quantize(types, attrs)
    return (TensorType(types[0].shape, types[0].dtype),)


def reference(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """float32 [..., C]."""
    del node
    dy, factor = arrays[:2]
    with np.errstate(over="ignore", invalid="ignore"):
        g = dy * factor
    if len(arrays) > 2:
        g = np.where(unpack_mask(arrays[2], dy.shape), g, np.float32(0))
    return (np.where(np.isfinite(g), g, np.float32(0)),)


OP = training_op("scale_gradient", infer, reference)

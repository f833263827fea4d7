"""int8 weights and int32 biases from real ones."""

from __future__ import annotations

import numpy as np

from ..ir.dtypes import Array, DType, Quant, TensorType
from .arithmetic import INT32_MAX, quantize_array

# A bias may use this much of int32, so that the products always have room beside it.
_BIAS_LIMIT = 2**29
_SMALLEST_SCALE = 1e-30  # keeps s_x · s_w a normal float32 when it is written to ONNX


def quantize_weights(
    real: Array, axis: int | None, bias: Array | None = None, x_scale: float = 1.0
) -> tuple[Array, Quant]:
    """Symmetric int8 weights in [−127, 127], one scale per index of `axis`, zero point 0.

    real: float32, any shape. bias: float32 [O], which must fit int32 at scale x_scale · s_w[o]: a
    channel of tiny weights and a large bias gets a coarser scale than its weights ask for. A
    channel of zeros gets the scale of an ordinary one.
    """
    absolute = np.abs(real.astype(np.float64))
    if axis is None:
        largest = np.atleast_1d(absolute.max(initial=0.0))
    else:
        largest = absolute.max(tuple(i for i in range(real.ndim) if i != axis), initial=0.0)
    usual = float(np.median(largest[largest > 0])) if np.any(largest > 0) else 127.0
    scales = np.where(largest > 0, largest, usual) / 127.0
    if bias is not None:
        needed = np.abs(bias.astype(np.float64)) / (float(x_scale) * _BIAS_LIMIT)
        scales = np.maximum(scales, needed if axis is not None else needed.max(initial=0.0))
    scales = np.maximum(scales, _SMALLEST_SCALE).astype(np.float32)
    quant = Quant(tuple(map(float, scales)), (0,) * len(scales), axis)
    q = quantize_array(real, TensorType(real.shape, DType.INT8, quant))
    return np.maximum(q, -127).astype(np.int8), quant


def quantize_bias(real: Array, scales: Array) -> tuple[Array, int]:
    """round(real / scales) as int32 [O], and how many channels did not fit and were clamped.

    real: [O], any float type; scales: [O] or [1], s_x · s_w in float64.
    """
    q = np.rint(real.astype(np.float64) / scales)
    clamped = np.clip(q, -INT32_MAX, INT32_MAX)
    return clamped.astype(np.int32), int(np.count_nonzero(q != clamped))


def activation_quant(low: float, high: float) -> Quant:
    """Asymmetric int8 parameters whose range covers [low, high] and represents 0 exactly.

    An empty or degenerate range gets the scale 1/127: any value fits, and 0 is exact.
    """
    low, high = min(float(low), 0.0), max(float(high), 0.0)
    scale = np.float32((high - low) / 255.0)
    if not np.isfinite(scale) or scale < np.finfo(np.float32).tiny:
        return Quant.per_tensor(float(np.float32(1 / 127)), 0)
    zero_point = int(np.clip(np.rint(-128 - low / float(scale)), -128, 127))
    return Quant.per_tensor(float(scale), zero_point)

"""The training graph in real arithmetic: nothing is rounded, clamps stay.

Values keep the units of their integers, so that masks and bounds mean the same. It is what the
integer graph approximates: the gradients are exact derivatives of this one, and training it is
float32 SGD on the dequantised network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..ir.dtypes import Array
from ..ir.graph import Node
from ..ops._convolution import (
    ConvolutionAttrs,
    correlate,
    input_gradient,
)
from ..ops._gradient import power_of_two, unpack_mask
from ..ops._gradient_rules import rescale_ratio
from ..ops._pool import window_count
from ..ops._window import patches
from ..ops.average_pool import window_divisors
from ..ops.conv2d_trainable import whole_filter
from .program import Reference
from .unrounded_updates import UPDATES


def _factor(multiplier: Array, shift: Array) -> Array:
    return multiplier.astype(np.float64) * 2.0 ** (shift.astype(np.float64) - 31)


def _clip(node: Node, y: Array, like: Array) -> list[Array]:
    """In the precision of the activations; int8 inputs of the graph become float32."""
    precision = np.float64 if like.dtype == np.float64 else np.float32
    return [np.clip(y, *node.attrs.q_clamp).astype(precision)]


def _floats(x: Array) -> Array:
    return x if x.dtype == np.float64 else x.astype(np.float32)


def _conv2d(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    x, w, bias, multiplier, shift = arrays
    a = node.attrs
    window = ConvolutionAttrs(a.strides, a.pads, a.dilations, a.groups)
    centred = _floats(x) - node.x.zero_point
    acc = correlate(centred, w.astype(centred.dtype), window, 0) + bias.astype(np.float64)
    return _clip(node, acc * _factor(multiplier, shift) + node.y.zero_point, centred)


def _conv2d_trainable(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    x, frozen, trained, bias, multiplier, shift = arrays
    x = _floats(x)
    w = whole_filter(frozen, trained, node.attrs.trained_channels).astype(x.dtype)
    acc = correlate(x, w, node.attrs, node.x.zero_point) + bias.astype(np.float64)
    return _clip(node, acc * _factor(multiplier, shift) + node.y.zero_point, x)


def _dense(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    x, w, bias, multiplier, shift = arrays
    centred = _floats(x) - node.x.zero_point
    acc = centred @ w.astype(centred.dtype).T + bias.astype(np.float64)
    return _clip(node, acc * _factor(multiplier, shift) + node.y.zero_point, centred)


def _sum(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    a, (x1, x2) = node.attrs, map(_floats, arrays)
    y = (x1 * a.a + x2 * a.b + (a.c - (1 << (a.n - 1)))) / 2.0**a.n
    return _clip(node, y, x1)


def _mul(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    x1, x2 = (_floats(x) - v.type.zero_point for x, v in zip(arrays, node.inputs, strict=True))
    factor = float(_factor(np.array(node.attrs.multiplier), np.array(node.attrs.shift)))
    return _clip(node, x1 * x2 * factor + node.y.zero_point, x1)


def _mean(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    x, a = _floats(arrays[0]) - node.x.zero_point, node.attrs
    total = x.sum(axis=a.axes, keepdims=a.keepdims)
    return _clip(node, total * _factor(*arrays[1:])[0] + node.y.zero_point, x)


def _average_pool(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    x, a = _floats(arrays[0]) - node.x.zero_point, node.attrs
    windows = patches(x, a.kernel, window_count(node.x, a), a, 0).sum(axis=(3, 4))
    divisors = window_divisors(node.x, a)
    factor = _factor(*arrays[1:])[np.searchsorted(np.unique(divisors), divisors)]
    return _clip(node, windows * factor[None, :, :, None] + node.y.zero_point, x)


def _max_pool(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    x, a = _floats(arrays[0]), node.attrs
    windows = patches(x, a.kernel, window_count(node.x, a), a, -128)
    return _clip(node, windows.max(axis=(3, 4)), x)


def _lookup(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """A change of scale exactly; any other table by straight lines between its entries."""
    x, table = _floats(arrays[0]), arrays[1]
    ratio = rescale_ratio(node, table)
    if ratio is None:
        return (np.interp(x, np.arange(-128, 128), table).astype(x.dtype),)
    y = (x - node.x.zero_point) * ratio + node.y.zero_point
    return (np.clip(y, -128, 127).astype(x.dtype),)


def _lookup_gradient(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    del node
    dy, x, slope = arrays
    return (dy * slope[np.rint(x).astype(np.int64) + 128],)


def _cross_entropy(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    logits, label = arrays[0], int(arrays[1][0])
    real = logits.reshape(-1).astype(np.float64) * node.attrs.scale
    e = np.exp(real - real.max())
    p = e / e.sum()
    loss = -np.log(p[label])
    p[label] -= 1
    dy = (p * node.attrs.scale).reshape(logits.shape)
    return np.array([loss]), dy.astype(_floats(logits).dtype)


def _mse(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    d = _floats(arrays[0]) - arrays[1]
    square = node.attrs.scale**2 / d.size
    return np.array([(d * d).sum(dtype=np.float64) * square]), d * (2 * square)


def _quantize_gradient(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    del node
    t = arrays[0] * arrays[1]
    if len(arrays) > 2:
        t = np.where(unpack_mask(arrays[2], t.shape), t, 0 * t)
    return t, np.zeros(1, np.int32)


def _scale_gradient(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    return _quantize_gradient(node, arrays)[:1]


def _input_gradient(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    g, exponent, frozen, trained = arrays
    w = whole_filter(frozen, trained, node.attrs.trained_channels).astype(g.dtype)
    return (input_gradient(g, w, node.attrs, node.attrs.shape) * power_of_two(exponent),)


def _mul_gradient(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    return (arrays[0] * (arrays[1] - node.inputs[1].type.zero_point),)


UNROUNDED: Mapping[str, Reference] = {
    "conv2d": _conv2d,
    "conv2d_trainable": _conv2d_trainable,
    "dense": _dense,
    "add": _sum,
    "sub": _sum,
    "mul": _mul,
    "reduce_mean": _mean,
    "average_pool": _average_pool,
    "max_pool": _max_pool,
    "lookup": _lookup,
    "lookup_gradient": _lookup_gradient,
    "softmax_cross_entropy": _cross_entropy,
    "mse_loss": _mse,
    "quantize_gradient": _quantize_gradient,
    "scale_gradient": _scale_gradient,
    "conv2d_input_gradient": _input_gradient,
    **UPDATES,
    "mul_gradient": _mul_gradient,
}

"""Gradients through windows and tables; all float32.

average_pool_gradient(dy, weight[OH,OW]) → Σ over the windows that hold a pixel, in row-major order
    of the windows, of dy · weight; weight holds s_x / (s_y · divisor)
max_pool_gradient(dy, x) → each window's dy goes to its first largest element in row-major order;
    what meets at a pixel is added in row-major order of the windows
lookup_gradient(dy, x, slope[256]) → dy · slope[x + 128]
gather_channels(x) {channels} → these of the last axis: the saved input of a layer that is
    trained in part
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..ir.dtypes import Array, DType, Shape, TensorType
from ..ir.graph import Node
from ..ir.opdef import NoAttrs
from ._gradient import training_op
from ._pool import PoolAttrs, taps, window_count


@dataclass(frozen=True)
class PoolGradientAttrs(PoolAttrs):
    """The pooling's attributes (layout NHWC) and the shape of its input."""

    shape: Shape = ()


@dataclass(frozen=True)
class GatherChannelsAttrs:
    """channels: ascending."""

    channels: tuple[int, ...] = ()


def infer_pool(types: Sequence[TensorType], attrs: PoolGradientAttrs) -> Sequence[TensorType]:
    dy, other = types
    x = TensorType(attrs.shape, DType.INT8)
    expected = (attrs.shape[0], *window_count(x, attrs), attrs.shape[3])
    if dy.shape != expected or other.shape not in (attrs.shape, expected[1:3]):
        raise ValueError(f"{dy} and {other} do not belong to a pooling of {list(attrs.shape)}")
    return (TensorType(attrs.shape, DType.FLOAT32),)


def average_pool_gradient(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    dy, weight = arrays
    attrs: PoolGradientAttrs = node.attrs
    dx = np.zeros(attrs.shape, dy.dtype)
    part = dy * weight[None, :, :, None]
    rows, columns = _positions(attrs)
    for i, j in np.ndindex(rows.shape[0], columns.shape[0]):
        inside = np.ix_(_inside(rows[i], attrs.shape[1]), _inside(columns[j], attrs.shape[2]))
        dx[:, inside[0], inside[1]] += part[:, i, j][:, None, None, :]
    return (dx,)


def max_pool_gradient(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    dy, x = arrays
    attrs: PoolGradientAttrs = node.attrs
    dx = np.zeros(attrs.shape, dy.dtype)
    rows, columns = _positions(attrs)
    samples, channels = np.indices((attrs.shape[0], attrs.shape[3]))
    for i, j in np.ndindex(rows.shape[0], columns.shape[0]):
        r, c = _inside(rows[i], attrs.shape[1]), _inside(columns[j], attrs.shape[2])
        window = x[:, r][:, :, c].reshape(attrs.shape[0], -1, attrs.shape[3])
        best = window.argmax(axis=1)
        dx[samples, r[best // c.size], c[best % c.size], channels] += dy[:, i, j]
    return (dx,)


def _positions(attrs: PoolGradientAttrs) -> tuple[Array, Array]:
    """[OH,KH] rows and [OW,KW] columns that the windows read."""
    oh, ow = window_count(TensorType(attrs.shape, DType.INT8), attrs)
    return taps(attrs.shape[1], oh, 0, attrs), taps(attrs.shape[2], ow, 1, attrs)


def _inside(positions: Array, size: int) -> Array:
    return positions[(positions >= 0) & (positions < size)]


def infer_lookup(types: Sequence[TensorType], attrs: NoAttrs) -> Sequence[TensorType]:
    del attrs
    dy, x, slope = types
    if x.shape != dy.shape or x.dtype is not DType.INT8 or slope.shape != (256,):
        raise ValueError(f"cannot take slopes at {x} for {dy}")
    return (TensorType(dy.shape, DType.FLOAT32),)


def lookup_gradient(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    del node
    dy, x, slope = arrays
    return (dy * slope[x.astype(np.int64) + 128],)


def infer_gather(types: Sequence[TensorType], attrs: GatherChannelsAttrs) -> Sequence[TensorType]:
    (x,) = types
    if any(not 0 <= c < x.shape[-1] for c in attrs.channels):
        raise ValueError(f"{x} has not the channels {attrs.channels}")
    return (TensorType((*x.shape[:-1], len(attrs.channels)), x.dtype, x.quant),)


def gather_channels(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    return (np.ascontiguousarray(arrays[0][..., list(node.attrs.channels)]),)


OPS = (
    training_op("average_pool_gradient", infer_pool, average_pool_gradient, PoolGradientAttrs),
    training_op("max_pool_gradient", infer_pool, max_pool_gradient, PoolGradientAttrs),
    training_op("lookup_gradient", infer_lookup, lookup_gradient),
    training_op("gather_channels", infer_gather, gather_channels, GatherChannelsAttrs),
)

"""The rescaling of layers that learn: exact for every sum that weights and biases can come to."""

from __future__ import annotations

import numpy as np

from ..ir.dtypes import Array
from ..ir.graph import Graph, Node
from ..ops._gradient import channel_scales, frozen_channels
from ..quant.arithmetic import accumulator_bounds, requantize
from .packing import MAX_SHIFT, MIN_SHIFT

_BIAS_LIMIT = 2**30
_TAP_REACH = 128 * 127 + 128 * 254  # of a product, and of the folded bias as its weight moves


def rescale_rows(node: Node, graph: Graph) -> Array | None:
    """int32 [O, 3] {m, C, s} of a conv2d_trainable node: y = ((hi32(acc·m) + C) >> s), see
    `kernels.packing`. None where that is not exact for a sum that can occur.

    Channels whose result is the same for every sum, as dead ones, have m = 0.
    """
    multiplier, shift = (graph.constant(v).astype(np.int64) for v in node.inputs[4:6])
    low, high = _bounds(node, graph)
    first, last = requantize(low, multiplier, shift), requantize(high, multiplier, shift)
    constant = (first == last) | (multiplier == 0)
    n = np.where(constant, MIN_SHIFT, 31 - shift)
    if int(n.min()) < MIN_SHIFT or int(n.max()) > MAX_SHIFT:
        return None
    value = np.where(constant, np.clip(first, -256, 256), 0)
    s = n - 32
    rounding = np.where(constant, 0, np.int64(1) << (n - MIN_SHIFT))
    offset = rounding + ((node.y.zero_point + value) << s)
    return np.stack([np.where(constant, 0, multiplier), offset, s], 1).astype(np.int32)


def _bounds(node: Node, graph: Graph) -> tuple[Array, Array]:
    """int64[O] bounds of the sums: those of the present arrays for channels that never move."""
    frozen, trained, bias = (graph.constant(v) for v in node.inputs[1:4])
    filters = np.concatenate([a.reshape(a.shape[0], -1) for a in (frozen, trained)], 1)
    low, high = accumulator_bounds(filters, bias, -128, 127, 0)
    if not any(v in graph.storage for v in node.inputs[1:4]):
        return low, high
    moves = ~frozen_channels(channel_scales(node.inputs[1]), bias)
    reach = _BIAS_LIMIT + filters.shape[1] * _TAP_REACH
    return np.where(moves, -reach, low), np.where(moves, reach, high)

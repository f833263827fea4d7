"""Constants packed at compile time for tuned kernels.

The requantise step of these kernels is y = ssat8((hi32(acc·m) + C) >> s): one SMMLA, one SSAT with
a shift on Cortex-M. With n = 31 − shift it equals the rule of `quant.arithmetic` for 33 ≤ n ≤ 54,
because the rounding term 2^(n−1) is then a multiple of 2^32:
C = 2^(n−33) + zero_point·2^(n−32), s = n − 32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..ir.dtypes import Array
from ..ir.graph import Graph, Node
from ..quant.arithmetic import INT32_MAX, accumulator_bounds, requantize

MIN_SHIFT, MAX_SHIFT = 33, 54


@dataclass(frozen=True)
class Epilogue:
    """Per output channel: folded bias, multiplier, C and s (see above); all int32 arrays.

    scale_up: left shift that the kernel applies to every accumulator first, so that n ≥ 33.
    low, high: int64 proven bounds of the accumulator with the bias.
    """

    bias: Array
    multiplier: Array
    offset: Array
    shift: Array
    scale_up: int
    low: Array
    high: Array


def epilogue(node: Node, graph: Graph, extra: Array | int = 0) -> Epilogue | None:
    """Of a lowered conv2d or dense node; None when the form above is not exact for it.

    The input's zero point is folded into the bias, so the kernel sums w·x over the whole window,
    with the border read as x = zero_point. `extra`: left shift (per channel) that the accumulator
    already carries when the epilogue gets it.
    """
    w, bias, multiplier, shift = (graph.constant(v).astype(np.int64) for v in node.inputs[1:5])
    zero_point, y_zero_point = node.x.zero_point, node.y.zero_point
    low, high = accumulator_bounds(w, bias, -128, 127, zero_point)
    folded = bias - zero_point * w.sum(tuple(range(1, w.ndim)))
    n = 31 - shift
    first, last = (requantize(v, multiplier, shift) for v in (low, high))
    constant = (first == last) | (multiplier == 0)
    n = np.where(constant, MIN_SHIFT, n + extra)
    value = np.where(constant, np.clip(first, -256, 256), 0)
    multiplier = np.where(constant, 0, multiplier)
    scale_up = max(0, MIN_SHIFT - int(n.min()))
    n = n + scale_up
    reach = np.maximum(np.abs(low), np.abs(high)) << (scale_up + np.asarray(extra, np.int64))
    if int(n.max()) > MAX_SHIFT or int(reach.max()) > INT32_MAX:
        return None
    if int(np.abs(folded).max()) > INT32_MAX:
        return None
    s = n - 32
    rounding = np.where(constant, 0, np.int64(1) << (n - 33))
    offset = rounding + ((y_zero_point + value) << s)
    return Epilogue(
        folded.astype(np.int32),
        multiplier.astype(np.int32),
        offset.astype(np.int32),
        s.astype(np.int32),
        scale_up,
        low,
        high,
    )


def unroll(count: int, limit: int) -> int:
    """The largest divisor of `count` up to `limit`: how often a loop's body is repeated."""
    return next(u for u in range(min(count, limit), 0, -1) if count % u == 0)


def pad_axis(array: Array, axis: int, multiple: int) -> Array:
    """Zero-pad one axis up to a multiple."""
    extra = -array.shape[axis] % multiple
    width = [(0, extra if i == axis else 0) for i in range(array.ndim)]
    return np.pad(array, width)


def words_of_halves(low: Array, high: Array) -> Array:
    """Two int16-valued arrays → int32 words with `low` in the bottom half."""
    words = (low.astype(np.int64) & 0xFFFF) | ((high.astype(np.int64) & 0xFFFF) << 16)
    return words.astype(np.uint32).view(np.int32)


def quad_pairs(weights: Array) -> tuple[Array, Array]:
    """[..., K], K a multiple of 4 → the pairs (k0,k2), (k1,k3) of each quad: two [..., K/2] arrays.

    This is the order in which SXTB16 and SXTB16 with ROR 8 take four bytes apart.
    """
    quads = weights.reshape(*weights.shape[:-1], -1, 4)
    low = quads[..., [0, 1]].reshape(*weights.shape[:-1], -1)
    high = quads[..., [2, 3]].reshape(*weights.shape[:-1], -1)
    return low, high

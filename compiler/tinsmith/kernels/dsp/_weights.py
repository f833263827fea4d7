"""Weights and channel constants of the DSP kernels, in the order their streams hold them."""

from __future__ import annotations

import numpy as np

from ...ir.dtypes import Array
from ...ir.graph import Graph, Node
from ..packing import Epilogue, epilogue, pad_axis, quad_pairs, words_of_halves

FEATURES = frozenset({"dsp"})
MAX_STORE_OFFSET = 4095
_RADIX_BITS = 8


def filters(node: Node, graph: Graph) -> Array:
    """[O, K] int64 weights, K padded to a multiple of 4, O to a multiple of 2."""
    w = graph.constant(node.inputs[1]).astype(np.int64)
    return pad_axis(pad_axis(w.reshape(w.shape[0], -1), 1, 4), 0, 2)


def is_radix(node: Node, graph: Graph) -> bool:
    w = filters(node, graph)
    halves = 256 * w[0::2] + w[1::2]
    if int(np.abs(halves).max()) > 2**15 - 1:
        return False
    return epilogue(node, graph, _extra(node, radix=True)) is not None


def _extra(node: Node, *, radix: bool) -> Array | int:
    """The left shift that the radix form leaves on the first channel of each pair."""
    channels = np.arange(node.inputs[1].type.shape[0])
    return np.where(channels % 2 == 0, _RADIX_BITS, 0) if radix else 0


def bound_epilogue(node: Node, graph: Graph) -> Epilogue:
    constants = epilogue(node, graph, _extra(node, radix=is_radix(node, graph)))
    assert constants is not None, "applies() promised"
    return constants


def is_exact(node: Node, graph: Graph) -> bool:
    return is_radix(node, graph) or epilogue(node, graph) is not None


def weight_words(w: Array, *, radix: bool) -> Array:
    """[O, K] → [O/2, K/2] words, one for a channel pair and a pair of k."""
    low, high = quad_pairs(w)
    if radix:
        return words_of_halves(256 * low[0::2] + low[1::2], 256 * high[0::2] + high[1::2])
    even = (low[0::2] & 0xFF) | ((low[1::2] & 0xFF) << 8)
    odd = (high[0::2] & 0xFF) | ((high[1::2] & 0xFF) << 8)
    return words_of_halves(even, odd)


def dense_words(node: Node, graph: Graph, *, radix: bool) -> Array:
    """[O/4, 4·K/4]: per four channels and quad of k the words of pair 0, then of pair 1."""
    words = weight_words(pad_axis(filters(node, graph), 0, 4), radix=radix)
    quads, k_quads = words.shape[0] // 2, words.shape[1] // 2
    return words.reshape(quads, 2, k_quads, 2).transpose(0, 2, 1, 3).reshape(quads, -1)


def channel_words(e: Epilogue, *, radix: bool) -> tuple[Array, Array]:
    """Per channel pair: [O/2, 2] accumulator starts and [O/2, 2, 3] {m, C, s}, int32."""
    bias = pad_axis(e.bias.astype(np.int64), 0, 2).reshape(-1, 2)
    if radix:
        bias = np.stack([256 * bias[:, 0] + bias[:, 1], bias[:, 1]], 1)
    rows = np.stack([e.multiplier, e.offset, e.shift], 1)
    return _wrap(bias), pad_axis(rows, 0, 2).reshape(-1, 2, 3)


def _wrap(values: Array) -> Array:
    return (values & 0xFFFFFFFF).astype(np.uint32).view(np.int32)

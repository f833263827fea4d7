"""Winograd F(4, 3) in integers modulo 2^32: what its kernels share.

Of the usual matrices the rows of G are scaled to integers, by (4, 6, 6, 24, 24, 1), and what is
missing to 24 goes to Aᵀ, whose rows are then divided by their common factor. U = G g, V = Bᵀ d
(d being x + 128, 0 … 255) and z = A (U·V) are then integers, U and V fit int16 in one dimension
and in two (|U| ≤ 49·127, |V| ≤ 68·255), and output i is 3·2^a_i·acc, a = (3, 2, 1, 1); in two
dimensions 9·2^(a_i + a_j)·acc. Times the inverse of 3 or 9 that is acc raised by some bits,
whatever overflowed before: exact as long as the raised accumulator fits int32, which the bounds of
the actual weights prove.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...ir.dtypes import Array
from ...ir.graph import Graph, Node
from ..geometry import Geometry, conv_geometry
from ._uniform import CommonShift, wrap32

TILE = 4
MAX_OFFSET = 4095  # of a load or store
# Rows 1 and 2 with the other sign than usual, as are columns 1 and 2 of A: sums without a negation.
G = np.array([[1, 0, 0], [1, 1, 1], [1, -1, 1], [1, 2, 4], [1, -2, 4], [0, 0, 1]], np.int64)


@dataclass(frozen=True)
class Tiling:
    """Pairs of tiles, side by side, row by row. The last of a row and those of the last row are
    moved back to end with the output, so some outputs are computed twice.

    step: pixels between the two tiles of a pair; last_x, last_y: the last pair's first pixel.
    """

    pairs_w: int
    bands: int
    step: int
    last_x: int
    last_y: int

    @property
    def pairs(self) -> int:
        return self.pairs_w * self.bands

    def border(self, g: Geometry, rows: int) -> int:
        """How many tiles, of `rows` rows of six inputs, are not all inside the input."""
        ys = (
            range(g.out_h) if rows == 1 else [min(n * TILE, self.last_y) for n in range(self.bands)]
        )
        firsts = [min(n * 2 * TILE, self.last_x) for n in range(self.pairs_w)]
        xs = [x + step for x in firsts for step in (0, self.step)]
        fits_y = [0 <= y - g.pad_top <= g.in_h - rows for y in ys]
        fits_x = [0 <= x - g.pad_left <= g.in_w - TILE - 2 for x in xs]
        return len(ys) * len(xs) - sum(fits_y) * sum(fits_x)

    def spans(self, g: Geometry, group: int) -> Iterator[tuple[int, int]]:
        """Per group of pairs: its first input row, and the output byte behind its last."""
        for first in range(0, self.pairs, group):
            pairs = range(first, min(first + group, self.pairs))
            ys = [min(n // self.pairs_w * TILE, self.last_y) for n in pairs]
            xs = [min(n % self.pairs_w * 2 * TILE, self.last_x) for n in pairs]
            ends = [
                ((y + TILE - 1) * g.out_w + x + self.step + TILE) * g.out_c
                for x, y in zip(xs, ys, strict=True)
            ]
            yield min(max(min(ys) - g.pad_top, 0), g.in_h), max(ends)


def tiling(g: Geometry) -> Tiling:
    """Of an output at least 4 pixels high and wide."""
    step = min(TILE, g.out_w - TILE)
    last_x = g.out_w - step - TILE
    return Tiling(-(-g.out_w // (2 * TILE)), -(-g.out_h // TILE), step, last_x, g.out_h - TILE)


def has_windows(node: Node, *, height: int, channels: int) -> bool:
    """A 3×3 convolution of stride 1 with an output of at least 4 pixels to a row and `height` rows,
    of words of inputs, at most `channels`, and an even number of outputs."""
    g = conv_geometry(node)
    return (
        node.attrs.groups == 1
        and node.x.shape[0] == 1
        and g.kernel_h == g.kernel_w == 3
        and g.stride_h == g.stride_w == g.dilation_h == g.dilation_w == 1
        and g.in_c % 4 == 0
        and 8 <= g.in_c <= channels
        and g.out_c % 2 == 0
        and g.out_h >= height
        and g.out_w >= TILE
        and (TILE + 3) * g.out_c <= MAX_OFFSET
    )


def border_instructions(g: Geometry, rows: int) -> float:
    """Of a tile's patch: a copied pixel takes 11 instructions for 16 bytes."""
    return 6 * rows * (15 + 11 * (g.in_c // 16) + 4 * (g.in_c % 16 // 4)) + 60


def filters(node: Node, graph: Graph, shift: CommonShift) -> Array:
    """[O, 3, 3, I] int64 weights; 0 in channels that take one value."""
    w = graph.constant(node.inputs[1]).astype(np.int64)
    return np.where(shift.constant[:, None, None, None], 0, w)


def int8_stream(w: Array) -> Array:
    """[O, 3, 3, I] → per pair of channels, four inputs and channel nine words."""
    out_c, in_c = w.shape[0], w.shape[3]
    w = w.astype(np.int8).reshape(out_c // 2, 2, 9, in_c // 4, 4).transpose(0, 3, 1, 2, 4)
    return np.ascontiguousarray(w).reshape(-1).view(np.int32)


def channel_words(
    node: Node, graph: Graph, shift: CommonShift, *, raised: int, held: int, inverse: int
) -> Array:
    """C, then per channel start, multiplier and inverse, for outputs that are raised by `held` of
    the `raised` bits; the others are made by shifting C and start."""
    w, bias = filters(node, graph, shift), graph.constant(node.inputs[2]).astype(np.int64)
    less = raised - held
    start = (bias - (node.x.zero_point + 128) * w.sum((1, 2, 3))) << (held + shift.raise_by)
    start = np.where(shift.constant, shift.value >> less, start)
    words = [wrap32(start), shift.multiplier, wrap32(inverse << shift.raise_by)]
    offset = shift.offset(node.y.zero_point) >> less
    return np.concatenate([[offset], np.ravel(np.stack(words, 1))]).astype(np.int32)

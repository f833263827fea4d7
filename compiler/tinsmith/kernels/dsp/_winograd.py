"""Winograd F(m, 3) in integers modulo 2^32: what its kernels share.

F(4, 3): of the usual matrices the rows of G are scaled to integers, by (4, 6, 6, 24, 24, 1), and
what is missing to 24 goes to Aᵀ, whose rows are then divided by their common factor. U = G g,
V = Bᵀ d (d being x + 128, 0 … 255) and z = A (U·V) are then integers, U and V fit int16 in one
dimension and in two (|U| ≤ 49·127, |V| ≤ 68·255), and output i is 3·2^a_i·acc, a = (3, 2, 1, 1); in
two dimensions 9·2^(a_i + a_j)·acc. Times the inverse of 3 or 9 that is acc raised by some bits.

F(2, 3): the two halved rows of G are doubled, and to Aᵀ goes the 2 that the others lack. Every
output is 2·acc, in two dimensions 4·acc; |U| ≤ 9·127, |V| ≤ 4·128 of d = x.

Whatever overflowed before, both are exact as long as the raised accumulator fits int32, which the
bounds of the actual weights prove.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...ir.dtypes import Array
from ...ir.graph import Graph, Node
from ..geometry import Geometry, conv_geometry
from ..packing import MIN_SHIFT, words_of_halves
from ._uniform import INT16_MAX, CommonShift, common_shift, wrap32

MAX_OFFSET = 4095  # of a load or store


@dataclass(frozen=True)
class Scale:
    """What z is of the accumulator.

    inverse: modulo 2^32, what z has to be multiplied with to be raised by bits only. raised: by how
    many then in the first output of a tile; held: in the last, for which the channels' words are
    made. moved: what is added to an input first.
    """

    raised: int
    held: int
    inverse: int
    moved: int

    def shift(self, node: Node, graph: Graph) -> CommonShift | None:
        lowest = MIN_SHIFT + self.raised - self.held
        return common_shift(node, graph, raised=self.raised, lowest=lowest)

    def bound_shift(self, node: Node, graph: Graph) -> CommonShift:
        shift = self.shift(node, graph)
        assert shift is not None, "applies() promised"
        return shift


@dataclass(frozen=True)
class Form:
    """F(size × size, 3 × 3).

    g: G for weights that are stored transformed, [size + 2, 3].
    input, output, weight: instructions of a tile's four inputs, of a tile's channel, and of four
    weights at every place of the window. unscaled: what an output takes more with weights that are
    transformed at run time.
    """

    size: int
    g: Sequence[Sequence[int]]
    scale: Scale
    input: int
    output: int
    weight: int
    unscaled: int = 0

    @property
    def patch(self) -> int:
        """Inputs of a tile, each way."""
        return self.size + 2

    @property
    def positions(self) -> int:
        return self.patch**2


# Rows 1 and 2 of F(4, 3) with the other sign than usual, as are columns 1 and 2 of A: sums without
# a negation. Stored, rows 0 and 5 carry the factor 6 that the products there need.
F4 = Form(
    4,
    ((6, 0, 0), (1, 1, 1), (1, -1, 1), (1, 2, 4), (1, -2, 4), (0, 0, 6)),
    Scale(raised=6, held=4, inverse=0x38E38E39, moved=128),  # of 9
    input=734,
    output=260,
    weight=276,
    unscaled=20,
)
F2 = Form(
    2,
    ((1, 0, 0), (1, 1, 1), (1, -1, 1), (0, 0, 1)),
    Scale(raised=2, held=2, inverse=1, moved=0),
    input=155,
    output=61,
    weight=110,
)


@dataclass(frozen=True)
class Patches:
    """Of tiles whose inputs are not all there: how many, and the rows and pixels that are."""

    tiles: int
    rows: int
    pixels: int
    size: int

    def instructions(self, in_c: int) -> float:
        """16 bytes take 8 instructions to fill and 11 to copy."""
        return (
            self.tiles * (40 + 8 * self.size * in_c // 16)
            + self.rows * 20
            + (0.69 * in_c * self.pixels)
        )


def patches(g: Geometry, places: Sequence[tuple[int, int]], rows: int, columns: int) -> Patches:
    """Of tiles of `rows` × `columns` inputs. places: (y, x) of their first outputs."""
    there = [
        (_there(y - g.pad_top, rows, g.in_h), _there(x - g.pad_left, columns, g.in_w))
        for y, x in places
    ]
    partial = [(h, w) for h, w in there if (h, w) != (rows, columns)]
    copied = [(h, w) for h, w in partial if w]
    return Patches(
        len(partial), sum(h for h, _ in copied), sum(h * w for h, w in copied), rows * columns
    )


def _there(first: int, count: int, size: int) -> int:
    return max(min(first + count, size) - max(first, 0), 0)


@dataclass(frozen=True)
class Tiling:
    """Tiles of `size` × `size` outputs, row by row. The last of a row and those of the last row
    are moved back to end with the output, so some outputs are computed twice."""

    size: int
    tiles_w: int
    tiles_h: int
    last_x: int
    last_y: int

    @property
    def count(self) -> int:
        return self.tiles_w * self.tiles_h

    def place(self, tile: int) -> tuple[int, int]:
        """(y, x) of the first output; behind the last tile that one once more."""
        row, column = divmod(min(tile, self.count - 1), self.tiles_w)
        return min(row * self.size, self.last_y), min(column * self.size, self.last_x)

    def patches(self, g: Geometry, tiles: int) -> Patches:
        size = self.size + 2
        return patches(g, [self.place(n) for n in range(tiles)], size, size)

    def lead(self, g: Geometry, group: int) -> int:
        """Of a kernel that reads the inputs of `group` tiles before it writes their outputs."""
        places = [self.place(n) for n in range(self.count)]
        next_read = g.in_h * g.row_bytes
        lead = -next_read
        for first in reversed(range(0, self.count, group)):
            y, x = places[min(first + group, self.count) - 1]
            end = (y + self.size - 1) * g.out_row_bytes + (x + self.size) * g.out_c
            lead = max(lead, end - next_read) if first + group < self.count else lead
            for y, x in places[first : first + group]:
                top, left = max(y - g.pad_top, 0), max(x - g.pad_left, 0)
                next_read = min(next_read, top * g.row_bytes + left * g.in_c)
        return lead


def tiling(g: Geometry, size: int) -> Tiling:
    """Of an output at least `size` pixels high and wide."""
    tiles_w, tiles_h = -(-g.out_w // size), -(-g.out_h // size)
    return Tiling(size, tiles_w, tiles_h, g.out_w - size, g.out_h - size)


def has_windows(node: Node, *, height: int, width: int, channels: int) -> bool:
    """A 3×3 convolution of stride 1 with an output of at least `height` × `width` pixels, of words
    of inputs, at most `channels`, and an even number of outputs."""
    g = conv_geometry(node)
    return (
        node.attrs.groups == 1
        and node.x.shape[0] == 1
        and g.kernel_h == g.kernel_w == 3
        and g.stride_h == g.stride_w == g.dilation_h == g.dilation_w == 1
        and g.in_c % 4 == 0
        and g.in_c <= channels
        and g.out_c % 2 == 0
        and g.out_h >= height
        and g.out_w >= width
        and 7 * g.out_c <= MAX_OFFSET
    )


def filters(node: Node, graph: Graph, shift: CommonShift) -> Array:
    """[O, 3, 3, I] int64 weights; 0 in channels that take one value."""
    w = graph.constant(node.inputs[1]).astype(np.int64)
    return np.where(shift.constant[:, None, None, None], 0, w)


def stored(form: Form, w: Array, channels: int) -> Array:
    """[O, 3, 3, I] weights → the words of U, `channels` at a time."""
    g = np.array(form.g, np.int64)
    u = np.einsum("pi,oijc,qj->opqc", g, w, g)
    assert np.abs(u).max(initial=0) <= INT16_MAX
    u = u.reshape(len(w) // channels, channels, form.positions, w.shape[3] // 4, 2, 2)
    words = words_of_halves(u[..., 0, :], u[..., 1, :])  # the pairs of packing.quad_pairs
    return np.ravel(words.transpose(0, 2, 3, 1, 4))


def int8_stream(w: Array) -> Array:
    """[O, 3, 3, I] → per pair of channels, four inputs and channel nine words."""
    out_c, in_c = w.shape[0], w.shape[3]
    w = w.astype(np.int8).reshape(out_c // 2, 2, 9, in_c // 4, 4).transpose(0, 3, 1, 2, 4)
    return np.ascontiguousarray(w).reshape(-1).view(np.int32)


def channel_words(node: Node, graph: Graph, scale: Scale) -> Array:
    """C, then per channel start, multiplier and inverse, for the outputs that are raised least; the
    others are made by shifting C and start."""
    shift = scale.bound_shift(node, graph)
    w, bias = filters(node, graph, shift), graph.constant(node.inputs[2]).astype(np.int64)
    less = scale.raised - scale.held
    start = bias - (node.x.zero_point + scale.moved) * w.sum((1, 2, 3))
    start = np.where(shift.constant, shift.value >> less, start << (scale.held + shift.raise_by))
    words = [wrap32(start), shift.multiplier, wrap32(scale.inverse << shift.raise_by)]
    offset = shift.offset(node.y.zero_point) >> less
    return np.concatenate([[offset], np.ravel(np.stack(words, 1))]).astype(np.int32)

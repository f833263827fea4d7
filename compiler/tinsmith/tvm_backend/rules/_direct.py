"""Convolution straight from the input, NHWC: weights packed by blocks of output channels, borders
not read, each tile of the output in registers until it is done.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ...ir.dtypes import Array, TensorType
from ...ir.graph import Node
from ...kernels import Constant
from ._contraction import Contraction, tile
from ._emit import Expr, Register, Tensor, divided, loop, tails
from ._parallel import maybe_parallel, shared_loops
from ._strips import Block, Shape, Strip, blocks, ranked_tiles, strips
from ._taps import Windows, window_pair

_CACHE_LINE = 64
# The work of a multiplication for `maybe_parallel`: four times its time, as a thread reads little
# but what it wrote itself.
_WORK = 16


@dataclass(frozen=True)
class Layer:
    """A convolution, `lanes` output channels to a vector, tiles for `registers`.

    Without borders, strides and taps all pixels are one row; so are those of a dense layer.
    tile: (pixels, vectors) to take instead of the likely best.
    """

    samples: int
    down: Windows
    across: Windows
    groups: int
    in_channels: int
    out_channels: int
    lanes: int
    registers: int
    tile: tuple[int, int] | None = None

    @property
    def in_per_group(self) -> int:
        return self.in_channels // self.groups

    @property
    def out_per_group(self) -> int:
        return self.out_channels // self.groups

    @property
    def taps(self) -> tuple[int, int]:
        return self.down.kernel, self.across.kernel

    @property
    def vectors(self) -> int:
        """Of a group's outputs."""
        return -(-self.out_per_group // self.lanes)

    @property
    def missing(self) -> int:
        """Lanes of a group's last vector that are no output."""
        return self.vectors * self.lanes - self.out_per_group

    @property
    def macs(self) -> int:
        pixels = self.samples * self.down.out * self.across.out
        return pixels * self.out_channels * self.taps[0] * self.taps[1] * self.in_per_group

    @cached_property
    def shape(self) -> Shape:
        return Shape(*(self.tile or self.tiles[0]))

    @property
    def tiles(self) -> list[tuple[int, int]]:
        """All (pixels, vectors) that fit the registers, the likely best first."""
        return ranked_tiles(self.across.out, self.vectors, self.registers)

    @cached_property
    def blocks(self) -> list[Block]:
        """A block with missing lanes stands alone."""
        found = blocks(self.vectors, self.shape.vectors)
        last = found[-1]
        if self.missing and last.count > 1:
            before = last.count - 1
            rest = Block(last.first + before * last.vectors, 1, last.vectors)
            found[-1:] = [Block(last.first, before, last.vectors), rest]
        return found

    def packed(self, w: Array) -> Constant:
        """[O,KH,KW,I] → [group][block][KH][KW][I][lanes of the block], padded with 0."""
        filters = w.reshape(self.groups, self.out_per_group, *self.taps, self.in_per_group)
        filters = np.pad(filters, ((0, 0), (0, self.missing), *((0, 0),) * 3))
        parts: list[Array] = []
        for group in filters.transpose(0, 2, 3, 4, 1):
            for b in self.blocks:
                for i in range(b.count):
                    first = (b.first + i * b.vectors) * self.lanes
                    parts.append(group[..., first : first + b.vectors * self.lanes].ravel())
        return Constant(np.concatenate(parts), _CACHE_LINE)

    def padded(self, per_channel: Array) -> Constant:
        """[O] → [group][lanes], padded with 0."""
        rows = per_channel.reshape(self.groups, self.out_per_group)
        return Constant(np.pad(rows, ((0, 0), (0, self.missing))).ravel(), _CACHE_LINE)


def conv_layer(node: Node, x: TensorType, w: TensorType, lanes: int, registers: int) -> Layer:
    """Of a node with the window of a convolution: x [N,H,W,C], w [O,KH,KW,I]."""
    channels, groups = (x.shape[3], w.shape[0]), node.attrs.groups
    down, across = window_pair(node, w.shape[1:3], x)
    if all(a.kernel == a.stride == 1 and not a.pad and a.size == a.out for a in (down, across)):
        pixels = node.y.elements // channels[1]
        return row_layer(pixels, *channels, groups, lanes, registers)
    return Layer(x.shape[0], down, across, groups, *channels, lanes, registers)


def row_layer(
    pixels: int, in_channels: int, out_channels: int, groups: int, lanes: int, registers: int
) -> Layer:
    """1×1 over a row of pixels."""
    one, row = Windows(1, 1, 1, 1, 0, 1), Windows(pixels, pixels, 1, 1, 0, 1)
    return Layer(1, one, row, groups, in_channels, out_channels, lanes, registers)


@dataclass(frozen=True)
class Arithmetic:
    """What a layer computes with: accumulators of `dtype`.

    start(vector): what the sums of a vector of outputs start at.
    store(where, sum, count): the first `count` lanes of a sum become outputs.
    """

    dtype: str
    x: Tensor
    w: Tensor
    start: Callable[[Expr], Expr]
    store: Callable[[Expr, Register, int], None]


def emit(layer: Layer, arithmetic: Arithmetic) -> None:
    """For each block of output channels, row by row, tile by tile."""
    rows, work = layer.samples * layer.down.out, _WORK * layer.macs
    with shared_loops(rows, work) as shared:
        for block in layer.blocks:
            part = _Part(layer, arithmetic, block)
            share = work * block.vectors // (layer.vectors * layer.groups * layer.across.out)
            with loop(layer.groups) as group, loop(block.count) as b, shared(rows) as row:
                for strip in strips(layer.across, layer.shape.pixels):
                    inner = 0 if rows > 1 else share * strip.count * strip.pixels
                    with maybe_parallel(strip.count, inner) as t:
                        part.emit(group, b, row, strip, strip.first + t * strip.pixels)


@dataclass(frozen=True)
class _Part:
    """The tiles of some equal blocks of output channels."""

    layer: Layer
    arithmetic: Arithmetic
    block: Block

    def emit(self, group: Expr, b: Expr, row: Expr, strip: Strip, ox: Expr) -> None:
        """The tile in output row `row` (of all samples) from pixel `ox` on. b: which block."""
        layer, a, lanes = self.layer, self.arithmetic, self.layer.lanes
        down, across, depth = layer.down, layer.across, layer.in_per_group
        per_vector = layer.taps[0] * layer.taps[1] * depth * lanes
        vector = group * layer.vectors + self.block.first + b * self.block.vectors
        width = self.block.vectors * lanes
        n, oy = divided(row, down.out) if layer.samples > 1 else (0, row)
        corner = (n * down.size + down.origin(oy)) * across.size + across.origin(ox)

        def x(pixel: int, ky: Expr, kx: int, channel: Expr) -> Expr:
            place = corner + ky * down.dilation * across.size
            place = place + (pixel * across.stride + kx * across.dilation)
            return a.x.load(place * layer.in_channels + group * depth + channel, 1, a.dtype)

        def w(ky: Expr, kx: int, channel: Expr, v: int) -> Expr:
            step = (ky * layer.taps[1] + kx) * depth + channel
            return a.w.load(vector * per_vector + step * width + v * lanes, lanes, a.dtype)

        def finish(pixel: int, v: int, total: Register) -> None:
            inside = (self.block.first + v) * lanes  # in the first of equal blocks
            at = (row * across.out + ox + pixel) * layer.out_channels
            at = at + group * layer.out_per_group + inside + b * width
            a.store(at, total, min(lanes, layer.out_per_group - inside))

        def start(v: int) -> Expr:
            return a.start((vector + v) * lanes)

        vectors = (lanes,) * self.block.vectors
        tile(Contraction(a.dtype, vectors, depth, x, w, start, finish), strip, down, oy)


def store(y: Tensor, at: Expr, total: Register, count: int) -> None:
    """The first `count` lanes of a sum of y's own type."""
    held = Tensor(total.buffer, total.dtype)
    for first, lanes in tails(0, count, total.lanes):
        y.put(at + first, held.raw(first, lanes), lanes)

"""Sums over windows as tiles of pixels × channel blocks whose accumulators stay in registers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ...ir.dtypes import Array
from ...kernels import Constant
from ..import_tvm import PrimFunc, T, tirx
from ..intrinsics import TAPS, Dot, dot_product, interleaved_order
from ..rule import Site, tile_of
from ._emit import Expr, Frame, Register, define, loop
from ._epilogue import Epilogue
from ._index import at_most, split
from ._parallel import WIDEST, maybe_parallel, shared_loops
from ._sum_windows import Source, Windows, needs_copy, source, windows_of

_CACHED_WEIGHTS = 24 * 1024  # that stay in the first-level cache while all pixels pass
_ENDING, _ENDING_IN_FOURS = 9, 7  # instructions from a vector of sums to outputs
_LATENCY = 10  # accumulators that keep the dot-product units busy


@dataclass(frozen=True)
class Tiling:
    """A node's sums: `pixels` × `blocks` accumulators of `lanes` channels at a time.

    channels: of a group. Of its `total` blocks, `whole` tiles of `blocks` are looped over, and one
    of `last` blocks (0: none), in which channels may be missing, follows.
    """

    site: Site
    windows: Windows
    dot: Dot
    channels: int
    pixels: int
    blocks: int

    @property
    def total(self) -> int:
        return -(-self.channels // self.dot.lanes)

    @property
    def whole(self) -> int:
        full = self.channels // self.dot.lanes
        return full // self.blocks

    @property
    def last(self) -> int:
        return self.total - self.whole * self.blocks

    @property
    def in_fours(self) -> bool:
        """Whether the blocks of whole tiles are stored four at a time, as one longer vector."""
        return self.blocks % TAPS == 0

    @property
    def order(self) -> Array:
        """[total · lanes]: the channel of a group that each lane has, −1 where there is none."""
        lane = np.arange(self.total * self.dot.lanes)
        if self.in_fours:
            four = interleaved_order(self.dot.lanes).ravel()
            end = self.whole * self.blocks * self.dot.lanes
            lane[:end] = (lane[:end].reshape(-1, len(four)))[:, four].ravel()
        return np.where(lane < self.channels, lane, -1)

    @property
    def depth(self) -> int:
        """Steps of four bytes of one window."""
        return self.windows.filter_rows * self.windows.runs * self.windows.steps


def tiling_of(site: Site) -> Tiling:
    windows = windows_of(site)
    weights = site.graph.constant(site.node.inputs[1])
    dot = dot_product(site.isa.dot, weights)
    channels = len(weights) // windows.groups
    pixels, blocks = tile_of(site, tiles(site))
    return Tiling(site, windows, dot, channels, pixels, blocks)


def tiles(site: Site) -> list[tuple[int, int]]:
    """(pixels, blocks) of all tiles that fit the registers, the likely best first."""
    windows = windows_of(site)
    weights = site.graph.constant(site.node.inputs[1])
    lanes = dot_product(site.isa.dot, weights).lanes
    channels = len(weights) // windows.groups
    steps = windows.filter_rows * windows.runs * windows.steps
    return ranked_tiles(windows.columns, -(-channels // lanes), site.isa.registers, steps)


def ranked_tiles(
    columns: int, blocks: int, registers: int, depth: int = 64
) -> list[tuple[int, int]]:
    """(pixels, blocks) that fit the registers, those with the fewest loads per dot product first.

    A tile with few accumulators waits for them; one that does not divide the row repeats pixels;
    four blocks at a time are stored with fewer instructions. depth: dot products of a sum.
    """

    def cost(pixels: int, wide: int) -> float:
        loads = (pixels + wide) / (pixels * wide)
        far = 1 / pixels  # weights come from farther away than the input
        waiting = max(0, _LATENCY - pixels * wide) * 0.1
        repeated = -(-columns // pixels) * pixels / columns
        uneven = -(-blocks // wide) * wide / blocks
        ending = (_ENDING_IN_FOURS if wide % TAPS == 0 else _ENDING) / depth
        return (1 + loads + far + waiting + ending) * repeated * (0.75 + 0.25 * uneven)

    fitting = [
        (p, b)
        for p in range(1, min(columns, 28) + 1)
        for b in range(1, blocks + 1)
        if p * b + b + 1 <= registers
    ]
    return sorted(fitting, key=lambda tile: cost(*tile))


def constants(site: Site) -> Mapping[str, Constant]:
    """`w`, packed tile after tile in the order they are read, and the tables of the epilogue."""
    t = tiling_of(site)
    starts = [g * t.channels for g in range(t.windows.groups)]
    order = np.concatenate([np.where(t.order < 0, -1, t.order + start) for start in starts])
    return {"w": Constant(_packed(t).ravel(), 64), **Epilogue.of(site).constants(order)}


def _packed(t: Tiling) -> Array:
    w, lanes = t.windows, t.dot.lanes
    weights = t.site.graph.constant(t.site.node.inputs[1])
    runs = weights.reshape(w.groups, t.channels, w.filter_rows * w.runs, w.run)
    padded = np.pad(runs, ((0, 0), (0, 1), (0, 0), (0, w.steps * TAPS - w.run)))
    ordered = padded[:, t.order]  # the row of zeros is the last one, −1
    steps = ordered.reshape(w.groups, t.total, lanes, t.depth, TAPS)
    packed = t.dot.pack(steps.transpose(0, 1, 3, 2, 4))  # [G, total, depth, parts, n]
    whole, last = np.split(packed, [t.whole * t.blocks], axis=1)
    tiles = whole.reshape(w.groups, t.whole, t.blocks, *packed.shape[2:]).swapaxes(2, 3)
    rows = [tiles.reshape(w.groups, -1), last.swapaxes(1, 2).reshape(w.groups, -1)]
    return np.concatenate(rows, axis=1)


def scratch_bytes(site: Site) -> int:
    windows = windows_of(site)
    return windows.copy_bytes if needs_copy(site, windows) else 0


def build(site: Site) -> PrimFunc:
    t = tiling_of(site)

    def body(frame: Frame) -> None:
        _emit(t, source(site, t.windows, frame), frame)

    return define(site, body, constants(site), scratch_bytes=scratch_bytes(site))


def _emit(t: Tiling, src: Source, frame: Frame) -> None:
    """Weights that fit the cache pass by for every tile of pixels; larger ones are outermost.

    Threads share the pixels: a layer's input lies where the layer before left it, with the thread
    that reads it, while weights are in every core's cache.
    """
    w = t.windows
    tiles = -(-w.columns // t.pixels)
    pixel_tiles = w.samples * w.rows * tiles
    last = T.int32(t.whole)  # which tile is the last one: told apart by identity
    tile_bytes = t.depth * t.blocks * t.dot.part_elements * t.dot.parts
    channels_outside = t.total // t.blocks * tile_bytes > _CACHED_WEIGHTS and pixel_tiles > 1

    def tile(index: Expr, group: Expr, block: Expr, width: int) -> None:
        in_last = t.last > 0 and block is last
        _Tile(t, src, frame, index, group, block, width, in_last=in_last).emit()

    work = t.site.node.op.macs(t.site.node) * min(4, WIDEST // t.dot.part_elements)
    if pixel_tiles == 1:
        with loop(w.groups) as group:
            if t.whole:
                with maybe_parallel(t.whole, work // w.groups) as block:
                    tile(0, group, block, t.blocks)
            if t.last:
                tile(0, group, last, t.last)
    elif channels_outside:
        with shared_loops(pixel_tiles, work) as shared, loop(w.groups) as group:
            if t.whole:
                with loop(t.whole) as block, shared(pixel_tiles) as index:
                    tile(index, group, block, t.blocks)
            if t.last:
                with shared(pixel_tiles) as index:
                    tile(index, group, last, t.last)
    else:
        with maybe_parallel(pixel_tiles, work) as index, loop(w.groups) as group:
            if t.whole:
                with loop(t.whole) as block:
                    tile(index, group, block, t.blocks)
            if t.last:
                tile(index, group, last, t.last)


@dataclass(frozen=True)
class _Tile:
    """One tile. index: of its pixels; block: which tile of blocks, `width` wide, in `group`;
    in_last: the one in which channels may be missing."""

    t: Tiling
    src: Source
    frame: Frame
    index: Expr
    group: Expr
    block: Expr
    width: int
    in_last: bool

    def emit(self) -> None:
        w, t = self.t.windows, self.t
        tiles = -(-w.columns // t.pixels)
        row, column = split(self.index, tiles)
        first = at_most(column * t.pixels, w.columns - t.pixels, t.pixels)
        sample, y = split(row, w.rows)
        at = (sample * self.src.rows + y * w.stride_rows) * self.src.row
        at = T.bind(at + first * w.column_step + self.group * w.group_step)
        lane = T.bind((self.group * t.total + self.block * t.blocks) * t.dot.lanes)
        sums = self._start(lane)
        self._accumulate(sums, at)
        out = (row * w.columns + first) * (t.channels * w.groups) + self.group * t.channels
        self._store(sums, lane, T.bind(out + self.block * (t.blocks * t.dot.lanes)))

    def _start(self, lane: Expr) -> list[list[Register]]:
        lanes, start = self.t.dot.lanes, self.frame.constants["start"]
        sums = [
            [Register.new("int32", lanes) for _ in range(self.width)] for _ in range(self.t.pixels)
        ]
        for b in range(self.width):
            first = T.bind(start.raw(lane + b * lanes, lanes))
            for row in sums:
                row[b].set(first)
        return sums

    def _accumulate(self, sums: list[list[Register]], at: Expr) -> None:
        w, dot, t = self.t.windows, self.t.dot, self.t
        weights, n = self.frame.constants["w"], dot.part_elements
        group_elements = t.total * t.depth * dot.parts * n
        tile = self.group * group_elements + self.block * (t.blocks * t.depth * dot.parts * n)
        with loop(w.filter_rows) as i, loop(w.runs) as j, loop(w.steps) as k:
            step = (i * w.runs + j) * w.steps + k
            wat = T.bind(tile + step * (self.width * dot.parts * n))
            xat = T.bind(at + i * (w.row_step * self.src.row) + j * w.run_step + k * TAPS)
            parts = [
                [T.bind(weights.raw(wat + (b * dot.parts + p) * n, n)) for p in range(dot.parts)]
                for b in range(self.width)
            ]
            for p, row in enumerate(sums):
                four = self.src.tensor.raw(xat + p * w.column_step, TAPS)
                x = tuple(T.bind(v) for v in dot.spread(T.reinterpret("int32", four)))
                for total, part in zip(row, parts, strict=True):
                    total.set(dot.add(total.value, x, part))

    def _store(self, sums: list[list[Register]], lane: Expr, out: Expr) -> None:
        t, lanes = self.t, self.t.dot.lanes
        epilogue = Epilogue.of(t.site)
        pixel = t.channels * t.windows.groups
        if t.in_fours and not self.in_last:
            for p, row in enumerate(sums):
                for b in range(0, self.width, TAPS):
                    four = [s.value for s in row[b : b + TAPS]]
                    y = epilogue.finish_interleaved(four, self.frame, lane + b * lanes, lanes)
                    self.frame.y.put(out + p * pixel + b * lanes, y, TAPS * lanes)
            return
        for b in range(self.width):
            present = lanes
            if self.in_last:
                present = min(lanes, t.channels - (t.whole * t.blocks + b) * lanes)
            for p, row in enumerate(sums):
                y = epilogue.finish(row[b].value, self.frame, lane + b * lanes, lanes)
                store_lanes(self.frame, out + p * pixel + b * lanes, y, lanes, present)


def store_lanes(frame: Frame, at: Expr, value: Expr, lanes: int, present: int) -> None:
    """The first `present` of `lanes` bytes, in powers of two."""
    if present == lanes:
        frame.y.put(at, value, lanes)
        return
    whole, start = T.bind(value), 0
    for bit in reversed(range(lanes.bit_length())):
        width = 1 << bit
        if present & width:
            indices = [tirx.const(start + i, "int32") for i in range(width)]
            frame.y.put(at + start, tirx.Shuffle([whole], indices), width)
            start += width

"""Sums over windows as tiles of pixels × channel blocks whose accumulators stay in registers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ...ir.dtypes import Array
from ...kernels import Constant
from ..import_tvm import T, tirx
from ..intrinsics import TAPS, Dot, dot_product
from ..rule import PrimFunc, Site, tile_of
from ._emit import Expr, Frame, Register, define, loop
from ._epilogue import Epilogue
from ._index import at_most, split
from ._parallel import maybe_parallel
from ._sum_windows import Source, Windows, needs_copy, source, windows_of

_CACHED_WEIGHTS = 24 * 1024  # that stay in the first-level cache while all pixels pass
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
    return ranked_tiles(windows.columns, -(-channels // lanes), site.isa.registers)


def ranked_tiles(columns: int, blocks: int, registers: int) -> list[tuple[int, int]]:
    """(pixels, blocks) that fit the registers, those with the fewest loads per dot product first.

    A tile with few accumulators waits for them; one that does not divide the row repeats pixels.
    """

    def cost(pixels: int, wide: int) -> float:
        loads = (pixels + wide) / (pixels * wide)
        far = 1 / pixels  # weights come from farther away than the input
        waiting = max(0, _LATENCY - pixels * wide) * 0.1
        repeated = -(-columns // pixels) * pixels / columns
        uneven = -(-blocks // wide) * wide / blocks
        return (1 + loads + far + waiting) * repeated * (0.75 + 0.25 * uneven)

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
    lanes, groups = t.dot.lanes, t.windows.groups
    lane = np.arange(t.total * lanes)
    order = np.where(lane < t.channels, lane, -1)
    order = np.concatenate([np.where(order < 0, -1, order + g * t.channels) for g in range(groups)])
    return {"w": Constant(_packed(t).ravel(), 64), **Epilogue.of(site).constants(order)}


def _packed(t: Tiling) -> Array:
    w, lanes = t.windows, t.dot.lanes
    weights = t.site.graph.constant(t.site.node.inputs[1])
    runs = weights.reshape(w.groups, t.channels, w.filter_rows * w.runs, w.run)
    spare = (t.total * lanes - t.channels, w.steps * TAPS - w.run)
    padded = np.pad(runs, ((0, 0), (0, spare[0]), (0, 0), (0, spare[1])))
    steps = padded.reshape(w.groups, t.total, lanes, t.depth, TAPS)
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
    """Weights that fit the cache pass by for every tile of pixels; larger ones are outermost."""
    w = t.windows
    tiles = -(-w.columns // t.pixels)
    pixel_tiles = w.samples * w.rows * tiles
    tile_bytes = t.depth * t.blocks * t.dot.part_elements * t.dot.parts
    channels_outside = t.total // t.blocks * tile_bytes > _CACHED_WEIGHTS and pixel_tiles > 1

    def tile(index: Expr, group: Expr, block: Expr, width: int) -> None:
        _Tile(t, src, frame, index, group, block, width).emit()

    def pixels(group: Expr, block: Expr, width: int, work: int) -> None:
        with maybe_parallel(pixel_tiles, work) as index:
            tile(index, group, block, width)

    macs = t.site.node.op.macs(t.site.node)
    if channels_outside or pixel_tiles == 1:
        outer = t.whole if pixel_tiles == 1 else 1
        with loop(w.groups) as group:
            if t.whole:
                with maybe_parallel(t.whole, macs // w.groups if outer > 1 else 0) as block:
                    pixels(group, block, t.blocks, 0 if outer > 1 else macs // (w.groups * t.total))
            if t.last:
                pixels(group, t.whole, t.last, 0 if outer > 1 else macs // (w.groups * t.total))
        return
    with maybe_parallel(pixel_tiles, macs) as index, loop(w.groups) as group:
        if t.whole:
            with loop(t.whole) as block:
                tile(index, group, block, t.blocks)
        if t.last:
            tile(index, group, t.whole, t.last)


@dataclass(frozen=True)
class _Tile:
    """One tile. index: of its pixels; block: which tile of blocks, `width` wide, in `group`."""

    t: Tiling
    src: Source
    frame: Frame
    index: Expr
    group: Expr
    block: Expr
    width: int

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
        for b in range(self.width):
            present = lanes
            if self.width == t.last and self.block is t.whole:
                present = min(lanes, t.channels - (t.whole * t.blocks + b) * lanes)
            for p, row in enumerate(sums):
                y = epilogue.finish(row[b].value, self.frame, lane + b * lanes, lanes)
                place = out + p * (t.channels * t.windows.groups) + b * lanes
                store_lanes(self.frame, place, y, lanes, present)


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

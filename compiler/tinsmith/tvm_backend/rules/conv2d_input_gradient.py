"""conv2d_input_gradient of int8 gradients: exact int32 sums, then one power of two.

Filters stay in natural rows, for they may be state that moves: channels of the input, the last
axis of a row, run in vectors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ...ir.dtypes import DType
from ...ir.graph import Graph, Node, Value
from ...kernels import Constant
from ...kernels.portable import _filters
from ...kernels.portable.input_gradient import FILTERS, Phase, phases
from ...quant.arithmetic import INT32_MAX
from ..import_tvm import PrimFunc
from ..rule import Rule, Site
from ._emit import (
    Expr,
    Frame,
    Register,
    Tensor,
    bind,
    broadcast,
    const,
    define,
    loop,
    vector,
)
from ._float_functions import power_of_two
from ._phases import Tile, tiles, where_inside
from ._strips import choose, column_blocks

_MOST_PIXELS = 6  # of a tile: all taps are spelled out, so larger ones only take longer to compile


@dataclass(frozen=True)
class _Part:
    """`channels` of the input, whose filters are the array `name`.

    first: the first of them where they are neighbours; else None: `places` has where each one is.
    """

    name: str
    channels: int
    first: int | None
    places: tuple[int, ...]

    @property
    def table(self) -> str:
        return f"{self.name}_places"


def _parts(node: Node) -> list[_Part]:
    in_c, groups = node.attrs.shape[3], node.attrs.groups
    found: list[_Part] = []
    for part in _filters.parts(node, FILTERS, in_c // groups):
        channels = part["channels"] if groups == 1 else in_c  # depthwise: whole in one of the two
        places = part["places"] or tuple(range(channels))
        neighbours = places == tuple(range(places[0], places[0] + channels))
        found.append(_Part(part["name"], channels, places[0] if neighbours else None, places))
    return found


def applies(node: Node, graph: Graph) -> bool:
    """int8 gradients; one group, or a depthwise layer; sums that fit int32."""
    out, *kernel, _ = node.inputs[FILTERS].type.shape
    depthwise = node.attrs.groups == out == node.attrs.shape[3]
    terms = math.prod(kernel) * (1 if depthwise else out)
    return (
        node.x.dtype is DType.INT8
        and node.inputs[1] in graph.activations(node)
        and (node.attrs.groups == 1 or depthwise)
        and terms * 127 * 128 <= INT32_MAX
    )


def constants(site: Site) -> Mapping[str, Constant]:
    tables = {
        part.table: Constant(np.array(part.places, np.int32))
        for part in _parts(site.node)
        if part.first is None
    }
    return {**_filters.constants(site.node, FILTERS, site.graph), **tables}


def state(node: Node, graph: Graph) -> Mapping[str, Value]:
    return _filters.state(node, FILTERS, graph)


def build(site: Site) -> PrimFunc:
    """Phase by phase of the stride: rows of dx, tiles of a row, blocks of its channels."""
    node = site.node
    samples = node.attrs.shape[0]

    def body(frame: Frame) -> None:
        scale = bind(power_of_two(frame.inputs[1].raw(0)))
        for part in _parts(node):
            vectors = _vectors(site, part)
            for first, count, widths in column_blocks(part.channels, site.isa.lanes, vectors):
                with loop(count) as b, loop(samples) as n:
                    channel = first + b * sum(widths)
                    for rows in phases(node, 0):
                        with loop(rows.positions) as i:
                            job = _Job(site, frame, part, widths, rows, scale)
                            job.row(n, i, channel)

    return define(site, body, constants(site), state=state(node, site.graph))


def _vectors(site: Site, part: _Part) -> int:
    """Of a tile."""
    columns = site.node.attrs.shape[2]
    return choose(columns, max(1, part.channels // site.isa.lanes), site.isa.registers).vectors


@dataclass(frozen=True)
class _Job:
    """A block of channels of the rows of one phase. scale: 2^exponent."""

    site: Site
    frame: Frame
    part: _Part
    widths: tuple[int, ...]
    rows: Phase
    scale: Expr

    @property
    def _is_depthwise(self) -> bool:
        return self.site.node.attrs.groups > 1

    def row(self, n: Expr, i: Expr, channel: Expr) -> None:
        """Row number `i` of the phase, sample `n`."""
        node, isa = self.site.node, self.site.isa
        size = max(1, (isa.registers - 1 - len(self.widths)) // len(self.widths))
        for columns in phases(node, 1):
            for t in tiles(columns, node.x.shape[2], min(size, _MOST_PIXELS)):
                with loop(t.count) as k:
                    first = t.first + k * t.positions
                    self._tile(t, columns, n, i, first, channel)

    def _tile(self, t: Tile, columns: Phase, n: Expr, i: Expr, first: Expr, channel: Expr) -> None:
        node = self.site.node
        _, out_h, out_w, _ = node.x.shape
        _, in_h, in_w, in_c = node.attrs.shape
        sums = [[Register.new("int32", w) for w in self.widths] for _ in range(t.positions)]
        for row in sums:
            for acc in row:
                acc.set(const(0, "int32", acc.lanes))
        for ky, oy in self.rows.taps:
            with where_inside(i, self.rows, oy, out_h):
                for kx, ox in columns.taps:
                    live = [p for p, taps in enumerate(t.taps) if (kx, ox) in taps]
                    if live:
                        place = (n * out_h + i + oy) * out_w + first + ox
                        self._tap(sums, live, (ky, kx), place, channel)
        y = n * in_h + self.rows.start + i * node.attrs.strides[0]
        for p, row in enumerate(sums):
            x = columns.start + (first + p) * node.attrs.strides[1]
            for v, acc in enumerate(row):
                real = acc.value.astype(vector("float32", acc.lanes))
                scaled = real * broadcast(self.scale, acc.lanes)
                self._store(
                    (y * in_w + x) * in_c, channel + sum(self.widths[:v]), scaled, acc.lanes
                )

    def _store(self, pixel: Expr, channel: Expr, value: Expr, lanes: int) -> None:
        """Channels of the part, from its number `channel` on, to where they are in a pixel."""
        y, part = self.frame.y, self.part
        if part.first is not None:
            y.put(pixel + part.first + channel, value, lanes)
            return
        held = Register.new("float32", lanes)
        held.set(value)
        for lane in range(lanes):
            place = self.frame.constants[part.table].raw(channel + lane)
            y.put(pixel + place, Tensor(held.buffer, "float32").raw(lane))

    def _tap(
        self,
        sums: list[list[Register]],
        live: list[int],
        tap: tuple[int, int],
        place: Expr,
        channel: Expr,
    ) -> None:
        """One tap of the tile. place: the output pixel that the tile's first position meets."""
        node = self.site.node
        out, kernel_h, kernel_w, _ = node.inputs[FILTERS].type.shape
        g, w = self.frame.inputs[0], self.frame.constants[self.part.name]
        taps, number = kernel_h * kernel_w, tap[0] * kernel_w + tap[1]
        starts = [channel + sum(self.widths[:v]) for v in range(len(self.widths))]
        if self._is_depthwise:
            for v, lanes in enumerate(self.widths):
                weights = bind(_strided(w, starts[v] * taps + number, taps, lanes))
                for p in live:
                    value = g.load((place + p) * out + starts[v], lanes, "int32")
                    sums[p][v].set(value * weights + sums[p][v].value)
            return
        with loop(out) as o:
            row = (o * taps + number) * self.part.channels
            weights = [
                bind(w.load(row + at, lanes, "int32"))
                for at, lanes in zip(starts, self.widths, strict=True)
            ]
            for p in live:
                value = bind(g.load((place + p) * out + o, 1, "int32"))
                for v, lanes in enumerate(self.widths):
                    sums[p][v].set(broadcast(value, lanes) * weights[v] + sums[p][v].value)


def _strided(w: Tensor, at: Expr, step: int, lanes: int) -> Expr:
    return w.raw(at, lanes, step).astype(vector("int32", lanes))


RULES = (
    Rule(
        "conv2d_input_gradient",
        build,
        DType.FLOAT32,
        constants=constants,
        applies=applies,
        state=state,
    ),
)

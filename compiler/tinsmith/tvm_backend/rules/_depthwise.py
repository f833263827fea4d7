"""Depthwise sums: one dot product holds four taps of each channel, whose bytes are interleaved.

A row of the output is one line of columns × channels bytes, worked on in vectors that need not
begin at a pixel: as a tap moves by whole pixels, the weights just repeat along the line. So any
number of channels fills the vectors. With a stride the copy of the input puts the columns of each
residue together, and the line of every tap is again without gaps.

With stride and dilation 1 four neighbouring rows are interleaved once and serve all output rows
that need them; otherwise the taps are taken four by four as they come.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...ir.dtypes import Array
from ...ir.graph import Graph, Node
from ...kernels import Constant
from ...ops.conv2d import is_depthwise
from ..import_tvm import PrimFunc, T
from ..intrinsics import TAPS, Dot, dot_product, interleaved_order
from ..rule import Site
from ._emit import Expr, Frame, Register, define, loop
from ._epilogue import Epilogue, fits
from ._index import at_most, split
from ._lines import Lines, Source, lines_of, needs_copy, source
from ._parallel import maybe_parallel
from ._sum_tiles import store_lanes

_WORK = 4  # the time of a depthwise multiplication in those of `maybe_parallel`
_WHOLE_PIXELS = 4  # from so many vectors a pixel on, vectors begin anew with each pixel

Tap = tuple[int, int]  # a row of the tile's input, a column of the filter


def applies(node: Node, graph: Graph) -> bool:
    return is_depthwise(node) and node.y.shape[3] == node.x.shape[3] and fits(node, graph)


@dataclass(frozen=True)
class Plan:
    """How a node is computed: `tile` output rows at a time, vectors of `width` bytes.

    quads: the taps that are interleaved, four each. phases: the channel that each kind of vector
    begins with; vectors take the kinds in turn, the last of a line may have one of its own.
    """

    site: Site
    lines: Lines
    dot: Dot
    tile: int
    quads: Sequence[Sequence[Tap]]
    phases: Sequence[int]

    @property
    def width(self) -> int:
        return TAPS * self.dot.lanes

    @property
    def line(self) -> int:
        """The part of an output row that vectors cover without a new beginning, in bytes."""
        channels, width = self.lines.channels, self.width
        anew = channels % width != 0 and channels >= _WHOLE_PIXELS * width
        return channels if anew else self.lines.columns * channels

    @property
    def whole(self) -> int:
        """Vectors of a line that do not overlap another."""
        return self.line // self.width

    @property
    def period(self) -> int:
        """After so many vectors the kinds repeat."""
        return math.lcm(self.width, self.lines.channels) // self.width


def plan_of(site: Site) -> Plan:
    lines = lines_of(site.node)
    dot = dot_product(site.isa.dot, site.graph.constant(site.node.inputs[1]))
    tile = _rows_per_tile(lines, site.isa.registers)
    plan = Plan(site, lines, dot, tile, _quads(lines, tile), ())
    kinds = [i * plan.width for i in range(min(plan.whole, plan.period))]
    if plan.line % plan.width:
        kinds.append(max(0, plan.line - plan.width))
    return Plan(site, lines, dot, tile, plan.quads, [at % lines.channels for at in kinds])


def _rows_per_tile(lines: Lines, registers: int) -> int:
    """Rows that share interleaved input: as many as fill the quads, if registers suffice."""
    height = lines.filter_rows
    if lines.stride_rows > 1 or lines.row_step > 1 or height == 1:
        return 1
    most = 4 if registers > 16 else 2
    rows = min(TAPS * -(-(height + 1) // TAPS) - height + 1, most)
    return min(rows, lines.rows)


def _quads(lines: Lines, tile: int) -> list[list[Tap]]:
    height, width = lines.filter_rows, lines.filter_columns
    if tile == 1:
        taps = [(i, j) for i in range(height) for j in range(width)]
        return [taps[n : n + TAPS] for n in range(0, len(taps), TAPS)]
    rows = height + tile - 1
    starts = range(0, rows, TAPS)
    return [[(i, j) for i in range(n, min(n + TAPS, rows))] for j in range(width) for n in starts]


def constants(site: Site) -> Mapping[str, Constant]:
    """`w` by kind, quad and row of the tile, in the order of reading; tables of the epilogue."""
    plan = plan_of(site)
    lane = np.arange(plan.width)
    order = interleaved_order(plan.dot.lanes)
    channels = [((phase + lane) % plan.lines.channels)[order].ravel() for phase in plan.phases]
    weights = np.stack([_packed(plan, c) for c in channels])
    tables = Epilogue.of(site).constants(np.concatenate(channels))
    return {"w": Constant(weights.ravel(), 64), **tables}


def _packed(plan: Plan, channels: Array) -> Array:
    """[quads, rows of the tile, 4, parts, n] of the channels of a vector."""
    filters = plan.site.graph.constant(plan.site.node.inputs[1])[..., 0]  # [C, KH, KW]
    w = np.zeros((len(plan.quads), plan.tile, len(channels), TAPS), np.int8)
    for q, quad in enumerate(plan.quads):
        for t, (i, j) in enumerate(quad):
            for row in range(plan.tile):
                if 0 <= i - row < plan.lines.filter_rows:
                    w[q, row, :, t] = filters[channels, i - row, j]
    return plan.dot.pack(w.reshape(*w.shape[:2], TAPS, plan.dot.lanes, TAPS))


def scratch_bytes(site: Site) -> int:
    plan = plan_of(site)
    slack = max(0, plan.width - plan.line)
    return plan.lines.copy_bytes + slack if needs_copy(site, plan.lines, slack) else 0


def build(site: Site) -> PrimFunc:
    plan = plan_of(site)

    def body(frame: Frame) -> None:
        src = source(site, plan.lines, frame, copied=frame.scratch is not None)
        _emit(plan, src, frame)

    return define(site, body, constants(site), scratch_bytes=scratch_bytes(site))


def _emit(plan: Plan, src: Source, frame: Frame) -> None:
    lines, width = plan.lines, plan.width
    tiles = -(-lines.rows // plan.tile)
    begins = lines.columns * lines.channels // plan.line
    work = _WORK * plan.site.node.op.macs(plan.site.node)
    with maybe_parallel(lines.samples * tiles, work) as index:
        sample, tile = split(index, tiles)
        row = at_most(tile * plan.tile, lines.rows - plan.tile, plan.tile)
        read = T.bind((sample * src.rows + row * lines.stride_rows) * src.row)
        write = T.bind((sample * lines.rows + row) * (lines.columns * lines.channels))
        with loop(begins) as begin:
            if plan.whole:
                with loop(plan.whole) as n:
                    kind = n if plan.whole <= plan.period else split(n, plan.period)[1]
                    at = begin * plan.line + n * width
                    _vector(plan, src, frame, read + at, write + at, kind)
            if plan.line % width:
                at = begin * plan.line + max(0, plan.line - width)
                _vector(plan, src, frame, read + at, write + at, len(plan.phases) - 1)


def _vector(plan: Plan, src: Source, frame: Frame, read: Expr, write: Expr, kind: Expr) -> None:
    """One vector of `tile` output rows."""
    dot, lanes, n = plan.dot, plan.dot.lanes, plan.dot.part_elements
    read, lane = T.bind(read), T.bind(kind * plan.width)
    sums = [[Register.new("int32", lanes) for _ in range(TAPS)] for _ in range(plan.tile)]
    for g in range(TAPS):
        start = T.bind(frame.constants["start"].raw(lane + g * lanes, lanes))
        for row in sums:
            row[g].set(start)
    per_row = TAPS * dot.parts * n
    weights = T.bind(kind * (len(plan.quads) * plan.tile * per_row))
    for q, quad in enumerate(plan.quads):
        x = [_tap(plan, src, read, quad[min(t, len(quad) - 1)]) for t in range(TAPS)]
        inputs = [tuple(T.bind(part) for part in parts) for parts in dot.interleave(x)]
        for r, row in enumerate(sums):
            if not any(0 <= i - r < plan.lines.filter_rows for i, _ in quad):
                continue
            at = weights + (q * plan.tile + r) * per_row
            for g, (total, values) in enumerate(zip(row, inputs, strict=True)):
                parts = [
                    frame.constants["w"].raw(at + (g * dot.parts + p) * n, n)
                    for p in range(dot.parts)
                ]
                total.set(dot.add(total.value, values, parts))
    epilogue = Epilogue.of(plan.site)
    for r, row in enumerate(sums):
        y = epilogue.finish_interleaved([s.value for s in row], frame, lane, lanes)
        place = write + r * (plan.lines.columns * plan.lines.channels)
        store_lanes(frame, place, y, plan.width, min(plan.width, plan.line))


def _tap(plan: Plan, src: Source, read: Expr, tap: Tap) -> Expr:
    row, column = tap
    at = row * plan.lines.row_step * src.row + plan.lines.column_at(column, src)
    return T.bind(src.tensor.raw(read + at, plan.width))

"""conv2d_trainable in int8: a convolution whose filters may be state, in natural rows.

Each call first turns the filters over in scratch, so that output channels are neighbours; then
tiles of pixels by vectors of output channels are summed in int32. The border reads as the zero
point, for it is folded into the bias.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ...ir.dtypes import TensorType
from ...ir.graph import Graph, Node, Value
from ...kernels import Constant
from ...kernels.portable import _filters
from ..import_tvm import PrimFunc, T
from ..requantize import right_shifts
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
    spans,
    vector,
)
from ._integers import Output
from ._strips import Strip, choose, column_blocks, strips
from ._taps import Windows, window_pair

_FILTERS, _BIAS = 1, 3  # positions of `frozen` and of the bias among the inputs
_ALIGNMENT = 64
_MOST_PIXELS = 8  # of a tile
_COLUMN = 16  # filters turned over at a time
_TABLES = ("multiplier", "rounding", "right")


def _is_depthwise(node: Node) -> bool:
    return node.attrs.groups == node.x.shape[3] == node.y.shape[3] and node.attrs.groups > 1


def applies(node: Node, graph: Graph) -> bool:
    """One group, or a depthwise layer."""
    del graph
    return node.attrs.groups == 1 or _is_depthwise(node)


def _depth(node: Node) -> int:
    """Input channels of an output channel."""
    return node.x.shape[3] // node.attrs.groups


def _filter(node: Node) -> TensorType:
    return node.inputs[_FILTERS].type


def scratch_bytes(site: Site) -> int:
    out, kernel_h, kernel_w, _ = _filter(site.node).shape
    return out * kernel_h * kernel_w * _depth(site.node)


def constants(site: Site) -> Mapping[str, Constant]:
    """The filters and the bias that do not move, where their channels are, the rescaling."""
    node, graph = site.node, site.graph
    found = _filters.constants(node, _FILTERS, graph)
    for part in _filters.parts(node, _FILTERS, _depth(node)):
        if part["places"]:
            found[f"{part['name']}_places"] = Constant(np.array(part["places"], np.int32))
    if node.inputs[_BIAS] not in graph.storage:
        found["bias"] = Constant(graph.constant(node.inputs[_BIAS]), _ALIGNMENT)
    multiplier, right = right_shifts(*(graph.constant(v) for v in node.inputs[4:6]))
    arrays = (multiplier, np.int64(1) << (right - 1), right)
    tables = {n: Constant(a, _ALIGNMENT) for n, a in zip(_TABLES, arrays, strict=True)}
    return {**found, **tables}


def state(node: Node, graph: Graph) -> Mapping[str, Value]:
    bias = node.inputs[_BIAS]
    return {
        **_filters.state(node, _FILTERS, graph),
        **({"bias": bias} if bias in graph.storage else {}),
    }


def build(site: Site) -> PrimFunc:
    node = site.node

    def body(frame: Frame) -> None:
        packed = Tensor(frame.scratch, "uint8")
        _turn(site, frame, packed)
        down, across, samples = _windows(node)
        out = node.y.shape[3]
        shape = choose(across.out, max(1, out // site.isa.lanes), site.isa.registers)
        vectors = 1 if _is_depthwise(node) else shape.vectors
        pixels = min(shape.pixels if vectors > 1 else _MOST_PIXELS, across.out, _MOST_PIXELS)
        for first, count, widths in column_blocks(out, site.isa.lanes, vectors):
            with loop(count) as b, loop(samples) as n, loop(down.out) as oy:
                for strip in strips(across, pixels):
                    with loop(strip.count) as t:
                        ox = strip.first + t * strip.pixels
                        channel = first + b * sum(widths)
                        job = _Job(site, frame, packed, (down, across), widths, channel)
                        job.tile(strip, n, oy, ox)

    return define(
        site,
        body,
        constants(site),
        state=state(node, site.graph),
        scratch_bytes=scratch_bytes(site),
    )


def _windows(node: Node) -> tuple[Windows, Windows, int]:
    """Along height and width, and samples. Pixels of a pointwise layer are one row."""
    down, across = window_pair(node, _filter(node).shape[1:3])
    if all(a.kernel == a.stride == 1 and not a.pad and a.size == a.out for a in (down, across)):
        pixels = node.y.elements // node.y.shape[3]
        return Windows(1, 1, 1, 1, 0, 1), Windows(pixels, pixels, 1, 1, 0, 1), 1
    return down, across, node.x.shape[0]


def _turn(site: Site, frame: Frame, packed: Tensor) -> None:
    """[O][tap][channel] of each part → [tap][input channel][O]."""
    node = site.node
    out, kernel_h, kernel_w, _ = _filter(node).shape
    taps, depth = kernel_h * kernel_w, _depth(node)
    for part in _filters.parts(node, _FILTERS, depth):
        w, row = frame.constants[part["name"]], taps * part["channels"]
        places = frame.constants.get(f"{part['name']}_places")
        with loop(taps) as tap, loop(part["channels"]) as j:
            channel = j if places is None else bind(places.raw(j))
            to = bind((tap * depth + channel) * out)
            at = bind(tap * part["channels"] + j)
            _turn_column(w, at, row, packed, to, out)


def _turn_column(w: Tensor, at: Expr, row: int, packed: Tensor, to: Expr, out: int) -> None:
    """`out` elements of w from `at` on, `row` apart, become neighbours."""

    def move(o: Expr, lanes: int) -> None:
        column = w.raw(at + o * row, lanes, row)
        packed.put(to + o, T.reinterpret(column, dtype=vector("uint8", lanes)), lanes)

    spans(out, _COLUMN, move)


@dataclass(frozen=True)
class _Job:
    """The output channels `channel` … of one block, in vectors of `widths`."""

    site: Site
    frame: Frame
    packed: Tensor
    windows: tuple[Windows, Windows]
    widths: tuple[int, ...]
    channel: Expr

    def tile(self, strip: Strip, n: Expr, oy: Expr, ox: Expr) -> None:
        """Row `oy` from pixel `ox` on."""
        node, (down, across) = self.site.node, self.windows
        sums = [[Register.new("int32", w) for w in self.widths] for _ in range(strip.pixels)]
        for v, lanes in enumerate(self.widths):
            start = bind(self.frame.constants["bias"].raw(self._lane(v), lanes))
            for row in sums:
                row[v].set(start)
        corner = (n * down.size + down.origin(oy)) * across.size + across.origin(ox)
        with loop(down.kernel) as ky:
            place = corner + ky * down.dilation * across.size
            if all(down.taps(o) == (0, down.kernel) for o in range(down.out)):
                self._row(sums, strip, ky, place)
            else:
                iy = bind(down.origin(oy) + ky * down.dilation)
                with T.If(T.And(iy >= 0, iy < down.size)):
                    with T.Then():
                        self._row(sums, strip, ky, place)
                    with T.Else():
                        self._row(sums, strip, ky, None)
        pixel = (n * down.out + oy) * across.out + ox
        for p, row in enumerate(sums):
            for v, acc in enumerate(row):
                self._store((pixel + p) * node.y.shape[3] + self._lane(v), self._lane(v), acc)

    def _lane(self, v: int) -> Expr:
        return self.channel + sum(self.widths[:v])

    def _row(self, sums: list[list[Register]], strip: Strip, ky: Expr, place: Expr | None) -> None:
        """The taps of one row of the window; place: the pixel of tap 0, None outside the input."""
        node, across = self.site.node, self.windows[1]
        out, depth = node.y.shape[3], _depth(node)
        for kx in range(across.kernel):
            live = [place is not None and low <= kx < high for low, high in strip.taps]
            with loop(depth) as i:
                at = ((ky * across.kernel + kx) * depth + i) * out
                weights = [self._weights(at + self._lane(v), w) for v, w in enumerate(self.widths)]
                for p, inside in enumerate(live):
                    pixel = (0 if place is None else place) + (
                        p * across.stride + kx * across.dilation
                    )
                    for v, lanes in enumerate(self.widths):
                        value = self._value(pixel, i, v, lanes) if inside else self._border(lanes)
                        sums[p][v].set(value * weights[v] + sums[p][v].value)

    def _weights(self, at: Expr, lanes: int) -> Expr:
        signed = T.reinterpret(self.packed.raw(at, lanes), dtype=vector("int8", lanes))
        return bind(signed.astype(vector("int32", lanes)))

    def _value(self, pixel: Expr, i: Expr, v: int, lanes: int) -> Expr:
        channels = self.site.node.x.shape[3]
        if _is_depthwise(self.site.node):
            return self.frame.x.load(pixel * channels + self._lane(v), lanes, "int32")
        return broadcast(self.frame.x.load(pixel * channels + i, 1, "int32"), lanes)

    def _border(self, lanes: int) -> Expr:
        return const(self.site.node.x.zero_point, "int32", lanes)

    def _store(self, at: Expr, lane: Expr, acc: Register) -> None:
        node, lanes = self.site.node, acc.lanes
        m, rounding, right = (self.frame.constants[n].load(lane, lanes, "int64") for n in _TABLES)
        q = (acc.value.astype(vector("int64", lanes)) * m + rounding) >> right
        Output(node.y.zero_point, *node.attrs.q_clamp).store(self.frame.y, at, q, lanes, "int64")


RULES = (
    Rule(
        "conv2d_trainable",
        build,
        constants=constants,
        applies=applies,
        state=state,
        scratch_bytes=scratch_bytes,
    ),
)

"""Gradients of filters by int8 gradients of their sums, block by block, int32 in scratch.

A block of output channels by vectors of input channels, of a depthwise layer one vector of channels
per tap, is summed in registers over the pixels that have the tap inside the input.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...ir.graph import Node
from ..import_tvm import T, tirx
from ..rule import Site
from ._emit import Expr, Frame, Register, Tensor, bind, broadcast, const, loop, vector
from ._strips import column_blocks
from ._taps import Windows

G, X, TRAINED = 0, 2, 5  # positions among the inputs of weight_update
PLACES = "places"
FILTERS_AT_ONCE = 6
_VECTORS = 2  # of a tile of input channels
_INT32_BYTES = 4


def is_depthwise(node: Node) -> bool:
    """Whether every output channel has one input channel of its own."""
    return node.attrs.groups == node.x.shape[3] > 1 and node.inputs[TRAINED].type.shape[3] == 1


def row_of(node: Node) -> int:
    """Elements of a filter."""
    return int(np.prod(node.inputs[TRAINED].type.shape[1:]))


def rows_of(node: Node) -> int:
    """Filters that move."""
    return len(node.attrs.update_channels) or node.inputs[TRAINED].type.shape[0]


def _at_once(site: Site) -> int:
    """Filters of a block."""
    return min(rows_of(site.node), site.isa.lanes if is_depthwise(site.node) else FILTERS_AT_ONCE)


def scratch_bytes(site: Site) -> int:
    """Gradients of a block; of a depthwise layer not all of which moves, the gradients that do."""
    node = site.node
    pixels = node.x.shape[1] * node.x.shape[2]
    gathered = pixels * rows_of(node) if node.attrs.update_channels else 0
    return _at_once(site) * row_of(node) * _INT32_BYTES + gathered


def gather(site: Site, frame: Frame) -> None:
    """The gradients of the channels that move, side by side after those of a block."""
    node, to, rows = site.node, _gathered(site), rows_of(site.node)
    scratch = Tensor(frame.scratch, "uint8")
    with loop(node.x.shape[1] * node.x.shape[2]) as pixel, loop(rows) as row:
        place = frame.constants[PLACES].raw(row)
        value = frame.inputs[G].load(pixel * node.x.shape[3] + place, 1, "int32")
        scratch.put(to + pixel * rows + row, value.astype("uint8"))


@dataclass(frozen=True)
class Gradients:
    """Computes gradients of filters; in scratch they lie from its beginning on."""

    site: Site
    frame: Frame

    @property
    def _windows(self) -> tuple[Windows, Windows]:
        """Along height and width. Pixels of a pointwise layer are one row."""
        node = self.site.node
        x, attrs = node.inputs[X].type.shape, node.attrs
        kernel = node.inputs[TRAINED].type.shape[1:3]
        found = [
            Windows(
                x[a + 1], node.x.shape[a + 1], kernel[a], attrs.strides[a], attrs.pads[a],
                attrs.dilations[a],
            )
            for a in (0, 1)
        ]  # fmt: skip
        if all(w.kernel == w.stride == 1 and not w.pad and w.size == w.out for w in found):
            pixels = found[0].out * found[1].out
            return Windows(1, 1, 1, 1, 0, 1), Windows(pixels, pixels, 1, 1, 0, 1)
        return found[0], found[1]

    def _over_taps(self, each: Callable[[Expr, Expr, Expr], None]) -> None:
        """each(tap, ky, kx), all taps of the window."""
        down, across = self._windows
        with loop(down.kernel) as ky, loop(across.kernel) as kx:
            each(bind(ky * across.kernel + kx), ky, kx)

    def _over_pixels(self, ky: Expr, kx: Expr, each: Callable[[Expr, Expr], None]) -> None:
        """each(pixel of g, pixel of x), wherever the tap is inside the input."""
        down, across = self._windows
        with T.serial(*_inside(down, ky)) as oy, T.serial(*_inside(across, kx)) as ox:
            iy = down.origin(oy) + ky * down.dilation
            ix = across.origin(ox) + kx * across.dilation
            each(oy * across.out + ox, iy * across.size + ix)

    def _centred(self, at: Expr, lanes: int) -> Expr:
        """x − z of `lanes` channels, int32."""
        zero_point = self.site.node.inputs[X].type.zero_point
        x = self.frame.inputs[X].load(at, lanes, "int32")
        return bind(x - const(zero_point, "int32", lanes))

    def sums(self, first: Expr, count: int) -> None:
        """Gradients of `count` filters from `first` on: each pixel of x meets all of them."""
        node = self.site.node
        out, channels, row = node.x.shape[3], node.inputs[TRAINED].type.shape[3], row_of(node)

        def tap(number: Expr, ky: Expr, kx: Expr, column: Expr, widths: tuple[int, ...]) -> None:
            starts = [column + sum(widths[:v]) for v in range(len(widths))]
            accs = [[zero(w) for w in widths] for _ in range(count)]

            def meet(pixel: Expr, place: Expr) -> None:
                xs = [
                    self._centred(place * channels + start, w)
                    for start, w in zip(starts, widths, strict=True)
                ]
                for k, accs_of in enumerate(accs):
                    g = bind(self.frame.inputs[G].load(pixel * out + first + k, 1, "int32"))
                    for x, acc in zip(xs, accs_of, strict=True):
                        acc.set(broadcast(g, acc.lanes) * x + acc.value)

            self._over_pixels(ky, kx, meet)
            for k, accs_of in enumerate(accs):
                for start, acc in zip(starts, accs_of, strict=True):
                    at = k * row + number * channels + start
                    put_words(self.frame, at, acc.value, acc.lanes)

        def all_columns(number: Expr, ky: Expr, kx: Expr) -> None:
            for start, blocks_, widths in column_blocks(channels, self.site.isa.lanes, _VECTORS):
                with loop(blocks_) as b:
                    tap(number, ky, kx, start + b * sum(widths), widths)

        self._over_taps(all_columns)

    def depthwise_sums(self, first: Expr, lanes: int) -> None:
        """Gradients of `lanes` filters of a depthwise layer, from `first` of those that move on."""
        node = self.site.node
        rows, row = rows_of(node), row_of(node)

        def tap(number: Expr, ky: Expr, kx: Expr) -> None:
            acc = zero(lanes)

            def meet(pixel: Expr, place: Expr) -> None:
                g = self._moving_gradient(pixel * rows + first, lanes)
                acc.set(g * self._centred(place * rows + first, lanes) + acc.value)

            self._over_pixels(ky, kx, meet)
            for lane in range(lanes):
                value = Tensor(acc.buffer, "int32").raw(lane)
                put_words(self.frame, lane * row + number, value, 1)

        self._over_taps(tap)

    def _moving_gradient(self, at: Expr, lanes: int) -> Expr:
        """int32 gradients of channels that move, `at` among them."""
        if not self.site.node.attrs.update_channels:
            return self.frame.inputs[G].load(at, lanes, "int32")
        raw = Tensor(self.frame.scratch, "uint8").raw(_gathered(self.site) + at, lanes)
        return T.reinterpret(raw, dtype=vector("int8", lanes)).astype(vector("int32", lanes))


def _inside(windows: Windows, tap: Expr) -> tuple[Expr, Expr]:
    """[first, last) outputs that have the tap inside the input."""
    before = const(windows.pad, "int32") - tap * windows.dilation
    stride = windows.stride
    first = tirx.indexdiv(tirx.max(before, 0) + (stride - 1), stride)
    behind = tirx.max(windows.size - 1 + before + stride, 0)
    return first, tirx.max(first, tirx.min(windows.out, tirx.indexdiv(behind, stride)))


def _gathered(site: Site) -> int:
    """Where in scratch the gathered gradients begin."""
    return _at_once(site) * row_of(site.node) * _INT32_BYTES


def zero(lanes: int) -> Register:
    acc = Register.new("int32", lanes)
    acc.set(const(0, "int32", lanes))
    return acc


def words(frame: Frame, at: Expr, lanes: int) -> Expr:
    """int32 numbers in scratch, `at` counting them."""
    raw = Tensor(frame.scratch, "uint8").raw(at * _INT32_BYTES, _INT32_BYTES * lanes)
    return T.reinterpret(raw, dtype=vector("int32", lanes))


def put_words(frame: Frame, at: Expr, value: Expr, lanes: int) -> None:
    raw = T.reinterpret(value, dtype=vector("uint8", _INT32_BYTES * lanes))
    Tensor(frame.scratch, "uint8").put(at * _INT32_BYTES, raw, _INT32_BYTES * lanes)

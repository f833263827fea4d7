"""Depthwise conv2d in float32, NHWC: channels in vectors, a tile is a few pixels of a row."""

from __future__ import annotations

from collections.abc import Mapping

from ...ir.dtypes import DType
from ...ir.graph import Graph, Node
from ...kernels import Constant
from ...ops.conv2d import is_depthwise
from ..import_tvm import PrimFunc
from ..rule import Rule, Site
from ._emit import Expr, Frame, Register, bind, clamp_real, define, loop, spans
from ._strips import Strip, strips
from ._taps import window_pair

_CACHE_LINE = 64
_PIXELS = 8  # accumulators: enough to hide the latency of a multiplication


def is_plain_depthwise(node: Node, graph: Graph) -> bool:
    """One filter per channel."""
    del graph
    return is_depthwise(node) and node.attrs.groups == node.y.shape[3]


def constants(site: Site) -> Mapping[str, Constant]:
    """w: [KH][KW][C]; bias: [C]."""
    w, bias = (site.graph.constant(v) for v in site.node.inputs[1:3])
    return {
        "w": Constant(w[..., 0].transpose(1, 2, 0).ravel(), _CACHE_LINE),
        "bias": Constant(bias, _CACHE_LINE),
    }


def build(site: Site) -> PrimFunc:
    node = site.node
    down, across = window_pair(node, node.inputs[1].type.shape[1:3])
    channels, lanes = node.x.shape[3], site.isa.lanes
    pixels = min(_PIXELS, across.out)

    def body(frame: Frame) -> None:
        with loop(node.x.shape[0]) as n, loop(down.out) as oy:
            row = n * down.size + down.origin(oy)
            out_row = (n * down.out + oy) * across.out

            def part(c: Expr, width: int) -> None:
                for strip in strips(across, pixels):
                    with loop(strip.count) as t:
                        ox = strip.first + t * strip.pixels
                        corner = (row * across.size + across.origin(ox)) * channels + c
                        target = (out_row + ox) * channels + c
                        _tile(site, frame, strip, (oy, corner, target, c), width)

            spans(channels, lanes, part)

    return define(site, body, constants(site))


def _tile(
    site: Site, frame: Frame, strip: Strip, place: tuple[Expr, Expr, Expr, Expr], width: int
) -> None:
    """place: the row, where tap (0, 0) of the first pixel is, where it goes, its channel."""
    node = site.node
    down, across = window_pair(node, node.inputs[1].type.shape[1:3])
    channels = node.x.shape[3]
    oy, corner, target, c = place
    w, bias = frame.constants["w"], frame.constants["bias"]
    sums = [Register.new("float32", width) for _ in range(strip.pixels)]
    for acc in sums:
        acc.set(bias.raw(c, width))
    taps = range(min(low for low, _ in strip.taps), max(high for _, high in strip.taps))
    with down.each_tap(oy) as ky:
        for kx in taps:
            weights = bind(w.raw((ky * across.kernel + kx) * channels + c, width))
            for p, (low, high) in enumerate(strip.taps):
                if low <= kx < high:
                    pixel = ky * down.dilation * across.size + p * across.stride
                    at = corner + (pixel + kx * across.dilation) * channels
                    sums[p].set(frame.x.raw(at, width) * weights + sums[p].value)
    for p, acc in enumerate(sums):
        frame.y.put(target + p * channels, clamp_real(acc.value, node.attrs.clamp, width), width)


RULES = (Rule("conv2d", build, DType.FLOAT32, constants=constants, applies=is_plain_depthwise),)

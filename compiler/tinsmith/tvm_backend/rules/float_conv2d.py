"""conv2d and dense in float32, NHWC: weights packed by blocks of output channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ...ir.dtypes import Array, DType
from ...ir.graph import Graph, Node
from ...kernels import Constant
from ..import_tvm import PrimFunc
from ..rule import Rule, Site
from ._contraction import Contraction, tile
from ._emit import Expr, Frame, Register, Tensor, clamp_real, define, loop, tails
from ._strips import Block, Shape, blocks, choose, strips
from ._taps import Windows, window_pair
from .float_depthwise import is_plain_depthwise

_CACHE_LINE = 64


@dataclass(frozen=True)
class _Layer:
    """A convolution; dense is one of 1×1 over a row of pixels. Filters: per group."""

    samples: int
    down: Windows
    across: Windows
    groups: int
    in_channels: int
    out_channels: int
    taps: tuple[int, int]
    clamp: tuple[float, float]

    @property
    def in_per_group(self) -> int:
        return self.in_channels // self.groups

    @property
    def out_per_group(self) -> int:
        return self.out_channels // self.groups


def _layer(node: Node) -> _Layer:
    """Without borders, strides or taps all pixels are one row."""
    x, y, clamp = node.x, node.y, node.attrs.clamp
    channels = (x.shape[-1], y.shape[-1])
    pixels = y.elements // channels[1]
    flat = _row(pixels), _row(1)
    if node.op.name == "dense":
        return _Layer(1, flat[1], flat[0], 1, *channels, (1, 1), clamp)
    down, across = window_pair(node, node.inputs[1].type.shape[1:3])
    groups = node.attrs.groups
    if all(w.kernel == w.stride == 1 and not w.pad and w.size == w.out for w in (down, across)):
        return _Layer(1, flat[1], flat[0], groups, *channels, (1, 1), clamp)
    taps = (down.kernel, across.kernel)
    return _Layer(x.shape[0], down, across, groups, *channels, taps, clamp)


def _row(pixels: int) -> Windows:
    return Windows(pixels, pixels, 1, 1, 0, 1)


def _tiling(layer: _Layer, site: Site) -> tuple[int, Shape, list[Block]]:
    """Vectors of a group's outputs, the tile, and their blocks: a padded one stands alone."""
    lanes = site.isa.lanes
    vectors = -(-layer.out_per_group // lanes)
    shape = choose(layer.across.out, vectors, site.isa.registers)
    found = blocks(vectors, shape.vectors)
    last = found[-1]
    if layer.out_per_group % lanes and last.count > 1:
        before = last.count - 1
        found[-1:] = [
            Block(last.first, before, last.vectors),
            Block(last.first + before * last.vectors, 1, last.vectors),
        ]
    return vectors, shape, found


def constants(site: Site) -> Mapping[str, Constant]:
    """w: [group][block][KH][KW][I][lanes of the block]; bias: [group][lanes]; padded with 0."""
    layer, lanes = _layer(site.node), site.isa.lanes
    w, bias = (site.graph.constant(v) for v in site.node.inputs[1:3])
    vectors, _, listed = _tiling(layer, site)
    outs = layer.out_per_group
    missing = vectors * lanes - outs
    filters = w.reshape(layer.groups, outs, *layer.taps, layer.in_per_group)
    filters = np.pad(filters, ((0, 0), (0, missing), *((0, 0),) * 3)).transpose(0, 2, 3, 4, 1)
    parts: list[Array] = []
    for group in filters:
        for b in listed:
            for i in range(b.count):
                first = (b.first + i * b.vectors) * lanes
                parts.append(group[..., first : first + b.vectors * lanes].ravel())
    padded = np.pad(bias.reshape(layer.groups, outs), ((0, 0), (0, missing)))
    return {
        "w": Constant(np.concatenate(parts).astype(np.float32), _CACHE_LINE),
        "bias": Constant(padded.ravel().astype(np.float32), _CACHE_LINE),
    }


def build(site: Site) -> PrimFunc:
    """For each block of output channels, row by row, tile by tile."""
    layer = _layer(site.node)
    vectors, shape, listed = _tiling(layer, site)

    def body(frame: Frame) -> None:
        with loop(layer.groups) as group:
            for block in listed:
                with (
                    loop(block.count) as b,
                    loop(layer.samples) as n,
                    loop(layer.down.out) as oy,
                ):
                    for strip in strips(layer.across, shape.pixels):
                        with loop(strip.count) as t:
                            first = strip.first + t * strip.pixels
                            job = _Job(frame, layer, site.isa.lanes, vectors, block)
                            c = job.contraction(group, b, n, oy, first)
                            tile(c, strip, layer.down, oy)

    return define(site, body, constants(site))


@dataclass(frozen=True)
class _Job:
    """The tiles of one block of output channels."""

    frame: Frame
    layer: _Layer
    lanes: int
    vectors: int
    block: Block

    def contraction(self, group: Expr, b: Expr, n: Expr, oy: Expr, ox: Expr) -> Contraction:
        """Of the tile at row `oy` whose first pixel is `ox`. group, b: the output channels."""
        layer, lanes, frame = self.layer, self.lanes, self.frame
        down, across, depth = layer.down, layer.across, layer.in_per_group
        _, kernel_w = layer.taps
        per_vector = layer.taps[0] * kernel_w * depth * lanes
        vector = group * self.vectors + self.block.first + b * self.block.vectors
        width = self.block.vectors * lanes
        corner = (n * down.size + down.origin(oy)) * across.size + across.origin(ox)

        def x(pixel: int, ky: Expr, kx: int, channel: Expr) -> Expr:
            place = corner + ky * down.dilation * across.size
            place = place + (pixel * across.stride + kx * across.dilation)
            return frame.x.raw(place * layer.in_channels + group * depth + channel)

        def w(ky: Expr, kx: int, channel: Expr, v: int) -> Expr:
            row = (ky * kernel_w + kx) * depth + channel
            return frame.constants["w"].raw(vector * per_vector + row * width + v * lanes, lanes)

        def finish(pixel: int, v: int, total: Register) -> None:
            place = (n * down.out + oy) * across.out + ox + pixel
            inside = (self.block.first + v) * lanes  # in the first of equal blocks
            at = place * layer.out_channels + group * layer.out_per_group + inside
            whole = self.block.count > 1 or inside + lanes <= layer.out_per_group
            count = lanes if whole else layer.out_per_group - inside
            _store(frame.y, at + b * width, total, count, layer.clamp)

        return Contraction(
            "float32",
            (lanes,) * self.block.vectors,
            depth,
            x,
            w,
            lambda v: frame.constants["bias"].raw((vector + v) * lanes, lanes),
            finish,
        )


def _store(y: Tensor, at: Expr, total: Register, count: int, clamp: tuple[float, float]) -> None:
    """The first `count` lanes, clamped."""
    total.set(clamp_real(total.value, clamp, total.lanes))
    held = Tensor(total.buffer, total.dtype)
    for first, lanes in tails(0, count, total.lanes):
        y.put(at + first, held.raw(first, lanes), lanes)


def applies(node: Node, graph: Graph) -> bool:
    """Depthwise ones have their own rule."""
    return not is_plain_depthwise(node, graph)


RULES = (
    Rule("conv2d", build, DType.FLOAT32, constants=constants, applies=applies),
    Rule("dense", build, DType.FLOAT32, constants=constants),
)

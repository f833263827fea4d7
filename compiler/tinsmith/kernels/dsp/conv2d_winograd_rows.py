"""3×3 convolutions of stride 1 through exact integer Winograd F(4, 3) along rows (see `_winograd`).

Half of the multiplications, with int8 weights that are transformed at run time, once for each row
of outputs. What it needs beside them is three rows of transformed inputs; and when a row of outputs
is written, all input rows up to the one below it have been read, so the output may take their
place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...ir.graph import Graph, Node
from ..geometry import Geometry, clamp_facts, conv_geometry
from ..kernel import Constant, Kernel
from ..packing import unroll
from ._weights import FEATURES
from ._winograd import (
    Patches,
    Scale,
    channel_words,
    filters,
    has_windows,
    int8_stream,
    patches,
)

_TILE = 4
_SCALE = Scale(raised=3, held=3, inverse=0xAAAAAAAB, moved=128)  # of 3
_MAX_CHANNELS = 64
_BODY = 12


@dataclass(frozen=True)
class RowTiling:
    """Pairs of tiles of a row, side by side; the last is moved back to end with the output.

    step: pixels between the two tiles of a pair; last_x: the last pair's first pixel.
    """

    pairs_w: int
    step: int
    last_x: int

    def patches(self, g: Geometry) -> Patches:
        firsts = [min(n * 2 * _TILE, self.last_x) for n in range(self.pairs_w)]
        xs = [x + step for x in firsts for step in (0, self.step)]
        return patches(g, [(y, x) for y in range(g.out_h + 2) for x in xs], 1, _TILE + 2)


def row_tiling(g: Geometry) -> RowTiling:
    """Of an output at least 4 pixels wide."""
    step = min(_TILE, g.out_w - _TILE)
    return RowTiling(-(-g.out_w // (2 * _TILE)), step, g.out_w - step - _TILE)


def _stride(in_c: int) -> int:
    """Bytes of a position: two tiles' inputs of three rows, and four products."""
    return 12 * in_c + 16


def _unroll(in_c: int) -> int:
    return unroll(6, max(1, _BODY // (3 * in_c // 4)))


def _applies(node: Node, graph: Graph) -> bool:
    fits = has_windows(node, height=1, width=_TILE, channels=_MAX_CHANNELS)
    return fits and _SCALE.shift(node, graph) is not None


def _view(node: Node, graph: Graph) -> Mapping[str, Any]:
    g = conv_geometry(node)
    tiles = row_tiling(g)
    return {
        **vars(g),
        **vars(tiles),
        "quads": g.in_c // 4,
        "stride": _stride(g.in_c),
        "unroll": _unroll(g.in_c),
        "raised": False,
        "shift": _SCALE.bound_shift(node, graph).total - 32,
        **clamp_facts(node),
    }


def _constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    words = channel_words(node, graph, _SCALE)
    stream = int8_stream(filters(node, graph, _SCALE.bound_shift(node, graph)))
    return {"stream": Constant(stream), "channels": Constant(words)}


def _scratch(node: Node, graph: Graph) -> int:
    """Inputs and products of a row; the transformed weights of two channels, or patches."""
    del graph
    g = conv_geometry(node)
    return row_tiling(g).pairs_w * 6 * _stride(g.in_c) + 72 * g.in_c


def _lead(node: Node, index: int) -> int | None:
    if index != 0:
        return None
    g = conv_geometry(node)
    return max(
        (
            (oy + 1) * g.out_row_bytes - min(max(oy + 3 - g.pad_top, 0), g.in_h) * g.row_bytes
            for oy in range(g.out_h - 1)
        ),
        default=-node.x.bytes,
    )


def _instructions(node: Node, graph: Graph) -> float:
    del graph
    g = conv_geometry(node)
    tiles, quads = row_tiling(g), g.in_c // 4
    products = 6 * (30 * quads + 1) + 18 // _unroll(g.in_c) + 20
    inputs = 2 * (75 * quads + 50)
    return (
        (g.out_h + 2) * tiles.pairs_w * inputs
        + tiles.patches(g).instructions(g.in_c)
        + g.out_h * g.out_c / 2 * (tiles.pairs_w * (products + 186) + 204 * quads + 30)
    )


KERNELS = (
    Kernel(
        name="conv2d_winograd_rows_dsp",
        op="conv2d",
        template="targets/arm-dsp/kernels/conv2d_winograd_rows.c.j2",
        features=FEATURES,
        applies=_applies,
        view=_view,
        constants=_constants,
        scratch_bytes=_scratch,
        lead_bytes=_lead,
        instructions=_instructions,
    ),
)

"""Depthwise 3×3 convolution over planes: eight channels transposed at a time, with their border.

A plane is cut into strips of lines, stored column by column, so that 16 bytes in a row hold the
windows of several outputs: 4 lines × 4 columns at stride 1 (2×2 outputs), 3 lines × 5 columns at
stride 2 (two outputs). Taps padded with zeros then sum each of them by one VMLADAVA.S8.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...ir.dtypes import Array
from ...ir.graph import Graph, Node
from ...ops.conv2d import is_depthwise
from ..geometry import Geometry, bands_fit_in_place, clamp_facts, conv_geometry
from ..kernel import IN_PLACE_ONLY, Constant, Kernel
from ..packing import unroll
from ._weights import FEATURES, Rescaling, channels, rescaling

_AT_ONCE = 8  # channels
TAPS_BYTES = 24  # of a channel's record: zeros, taps, zeros; bias, multiplier and shift follow
_LEAST_BYTES, _PLANE_BYTES = 2048, 3072  # scratch to aim at: a quarter of the input within these
_MAX_OFFSET = 2**16 - 1  # of a scatter's lane, bytes


@dataclass(frozen=True)
class _Planes:
    """How a layer is cut up, its axes exchanged where strips of columns are better (`swapped`).

    g: the geometry after that. strips: in all; band: per turn. width: columns of a strip, with the
    border; strip_bytes: of one channel. lines: of a strip. columns: outputs per block in a line.
    """

    g: Geometry
    swapped: bool
    strips: int
    band: int
    width: int
    strip_bytes: int
    lines: int
    columns: int

    @property
    def bands(self) -> int:
        return -(-self.strips // self.band)

    @property
    def keeps(self) -> bool:
        """A band keeps the last two lines for the next one, as their place in the input may have
        been taken. At stride 2 outputs lie far behind the inputs, and the lines are read again."""
        return self.bands > 1 and self.lines == 4

    @property
    def plane_bytes(self) -> int:
        return self.strip_bytes * self.band

    @property
    def blocks(self) -> int:
        """In all of a plane."""
        return self.strips * -(-self.g.out_w // self.columns)


def _swap(g: Geometry) -> Geometry:
    return replace(
        g,
        in_h=g.in_w,
        in_w=g.in_h,
        out_h=g.out_w,
        out_w=g.out_h,
        pad_top=g.pad_left,
        pad_left=g.pad_top,
    )


def _cut(g: Geometry, swapped: bool) -> _Planes:
    lines, columns = (4, 4) if g.stride_h == 1 else (3, 8)
    strips = -(-g.out_h // 2) if g.stride_h == 1 else g.out_h
    width = (max(g.out_w, columns) - 1) * g.stride_h + 3
    strip_bytes = lines * width + (lines == 3)  # 16 bytes are five columns of three, and one
    room = min(_PLANE_BYTES, max(_LEAST_BYTES, g.in_h * g.row_bytes // 4))
    fitting = room // (strip_bytes * _AT_ONCE)
    band = strips if swapped else max(1, fitting)
    return _Planes(g, swapped, strips, min(band, strips), width, strip_bytes, lines, columns)


def _planes(g: Geometry) -> _Planes:
    """As the layer lies, or with its axes exchanged if that makes fewer blocks in one band."""
    upright, lying = _cut(g, False), _cut(_swap(g), True)
    fits = lying.plane_bytes * _AT_ONCE <= _PLANE_BYTES
    return lying if fits and lying.blocks < upright.blocks else upright


def _applies(node: Node, graph: Graph) -> bool:
    g = conv_geometry(node)
    return (
        is_depthwise(node)
        and node.x.shape[0] == 1
        and g.in_c == g.out_c
        and g.kernel_h == g.kernel_w == 3
        and g.stride_h == g.stride_w
        and g.stride_h in (1, 2)
        and g.dilation_h == g.dilation_w == 1
        and max(g.pad_top, g.pad_left) < 3
        and _AT_ONCE * _planes(g).plane_bytes <= _MAX_OFFSET
        and (max(g.out_w, g.out_h) + 8) * g.out_c <= _MAX_OFFSET
        and channels(node, graph) is not None
    )


def _view(node: Node, graph: Graph) -> Mapping[str, Any]:
    p, r = _planes(conv_geometry(node)), rescaling(node, graph)
    g, c = p.g, p.g.in_c
    in_column, in_line = (g.in_h * c, c) if p.swapped else (c, g.in_w * c)
    out_column, out_line = (g.out_h * c, c) if p.swapped else (c, g.out_w * c)
    taken = min(g.in_w, p.width - g.pad_left)
    per_strip = 2 if p.lines == 4 else 1
    lanes = [(k // p.columns, k % p.columns) for k in range(8)]
    return {
        **vars(p),
        **vars(g),
        "keeps": p.keeps,
        "plane_bytes": p.plane_bytes,
        "taken": taken,
        "unroll": unroll(taken, 6),
        "keep_unroll": unroll(p.strip_bytes // 16, 16),
        "in_column": in_column,
        "in_line": in_line,
        "out_column": out_column,
        "out_strip": per_strip * out_line,
        "whole": max(1, g.out_w // p.columns),
        "rest": g.out_w % p.columns if g.out_w > p.columns else 0,
        "places": [line * out_line + column * out_column for line, column in lanes],
        "mask": sum(3 << 2 * k for k, (_, column) in enumerate(lanes) if column < g.out_w),
        "last_mask": sum(
            3 << 2 * k
            for k, (line, column) in enumerate(lanes)
            if column < g.out_w and (p.strips - 1) * per_strip + line < g.out_h
        ),
        "record_bytes": record_bytes(r),
        "starts": _starts(p.lines),
        **clamp_facts(node),
        **r.facts,
    }


def _starts(lines: int) -> list[int]:
    """Where in a channel's record the taps for each output of a load begin: its zeros first."""
    shifts = [0, 1, 4, 5] if lines == 4 else [0, 6]
    return [max(shifts) - s for s in shifts]


def _scratch(node: Node, graph: Graph) -> int:
    del graph
    return _AT_ONCE * _planes(conv_geometry(node)).plane_bytes


def _constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    """Per channel a record, its taps column by column."""
    p = _planes(conv_geometry(node))
    w = graph.constant(node.inputs[1])[..., 0]
    by_column = w if p.swapped else w.transpose(0, 2, 1)
    return {"stream": records(by_column, max(_starts(p.lines)), p.lines, rescaling(node, graph))}


def record_bytes(r: Rescaling) -> int:
    """Of a channel."""
    return TAPS_BYTES + 4 + 4 * len(r.scales)


def records(w: Array, at: int, step: int, r: Rescaling) -> Constant:
    """Per channel 24 bytes with the three lines of w[channel] from `at` on, `step` bytes apart, and
    zeros; then bias, multiplier and, where channels differ in it, shift."""
    taps = np.zeros((len(w), TAPS_BYTES), np.int8)
    for line in range(3):
        taps[:, at + line * step : at + line * step + 3] = w[:, line]
    words = np.stack([r.bias, *r.scales], 1).astype(np.int32)
    return Constant(np.concatenate([taps, words.view(np.int8)], 1).ravel())


def _instructions(node: Node, graph: Graph) -> float:
    del graph
    p = _planes(conv_geometry(node))
    g = p.g
    masked = g.out_w < p.columns or (p.lines == 4 and g.out_h % 2)
    block = (25 if p.lines == 4 else 27) + (1 if masked else 0)
    channel = p.blocks * block + p.strips * (16 if masked else 11) + p.bands * 65
    put = g.in_h * ((4.5 if p.lines == 4 else 3.9) * g.in_w + 25) + 40
    kept = (p.bands - 1) * (8 * (20 + p.strip_bytes // 4) if p.keeps else 2 * (5 * g.in_w + 40))
    groups = -(-g.in_c // _AT_ONCE)
    return g.in_c * channel + groups * (put + kept) + _AT_ONCE * p.plane_bytes // 8 + 50


def _lead(node: Node, index: int) -> int | None:
    """In place, when no band writes pixels that the next one has yet to read."""
    p = _planes(conv_geometry(node))
    g = p.g
    per_strip, ahead = (2, 2) if p.lines == 4 else (1, 0)
    ends = range(p.band, p.strips, p.band)
    bands = ((end * per_strip, 2 * end + ahead - g.pad_top) for end in ends)
    return IN_PLACE_ONLY if index == 0 and bands_fit_in_place(g, bands) else None


KERNELS = (
    Kernel(
        name="depthwise_planes_mve",
        op="conv2d",
        template="targets/arm-mve/kernels/depthwise_planes.c.j2",
        features=FEATURES,
        applies=_applies,
        view=_view,
        constants=_constants,
        scratch_bytes=_scratch,
        lead_bytes=_lead,
        instructions=_instructions,
    ),
)

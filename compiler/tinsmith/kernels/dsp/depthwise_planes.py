"""Depthwise convolution over planes of int16: four channels widened at a time, with their border.

3×3 windows keep their taps in registers; other odd widths stream them, with four outputs at a time.
Planes hold a band of rows. The lean form makes it as small as it goes: less scratch, more turns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ...ir.dtypes import Array
from ...ir.graph import Graph, Node
from ...ops.conv2d import is_depthwise
from ..geometry import Geometry, bands_fit_in_place, clamp_facts, conv_geometry
from ..kernel import IN_PLACE_ONLY, Constant, Kernel
from ..packing import words_of_halves
from ._loops import loop
from ._uniform import uniform
from ._weights import FEATURES, MAX_STORE_OFFSET

_WIDTHS = (3, 5, 7)
_MAX_PAIR_OFFSET = 1020  # of LDRD, bytes
_LEAST_BYTES, _PLANE_BYTES = 640, 2560  # scratch to aim at: between them a quarter of the input


@dataclass(frozen=True)
class _Planes:
    """How a layer is cut up. full: outputs of a step; last: those of the step after the whole ones.
    band: rows of outputs per turn. words: of a plane's row. rows: of a plane."""

    held: bool
    full: int
    last: int
    steps: int
    band: int
    words: int
    rows: int


def _planes(g: Geometry, *, lean: bool = False) -> _Planes:
    held = g.kernel_h == g.kernel_w == 3
    full = (2 if g.stride_w == 1 else 1) if held else (4 if g.stride_w == 1 else 2)
    steps, last = divmod(g.out_w, full)
    reach = g.kernel_w // 2 + (1 if held else 2)
    start = (steps + (1 if last else 0) - 1) * full * g.stride_w // 2
    inside = g.pad_left // 2 + (g.in_w + g.pad_left % 2 + 1) // 2
    words = max(start + reach, inside)
    room = min(_PLANE_BYTES, max(_LEAST_BYTES, g.in_h * g.row_bytes // 4))
    most = max(room // (16 * words), g.kernel_h + g.stride_h)
    band = min((most - g.kernel_h) // g.stride_h + 1, g.out_h)
    if lean:
        band = min(band, 2 if g.stride_h == 1 else 1)
    rows = (band - 1) * g.stride_h + g.kernel_h
    return _Planes(held, full, last, steps, band, words, rows)


def _applies(node: Node, graph: Graph, *, lean: bool) -> bool:
    g = conv_geometry(node)
    if not is_depthwise(node) or (lean and _planes(g, lean=True) == _planes(g)):
        return False
    return (
        node.x.shape[0] == 1
        and g.in_c == g.out_c
        and g.in_c % 4 == 0
        and g.kernel_w in _WIDTHS
        and g.stride_w in (1, 2)
        and g.stride_h <= g.kernel_h
        and g.pad_top < g.kernel_h
        and (g.dilation_h == 1 or g.kernel_h == 1)
        and g.dilation_w == 1
        and 4 * g.in_c <= MAX_STORE_OFFSET
        and 4 * _planes(g).words * (g.kernel_h - 1) + 4 * g.kernel_w <= _MAX_PAIR_OFFSET
        and uniform(node, graph) is not None
    )


def _channel_words(g: Geometry) -> int:
    if _planes(g).held:
        return 8 if g.stride_w == 1 else 7
    m = g.kernel_w // 2
    return g.kernel_h * (2 * m if g.stride_w == 1 else m + 1) + 2


def _view(node: Node, graph: Graph, *, lean: bool) -> Mapping[str, Any]:
    g = conv_geometry(node)
    form = uniform(node, graph)
    assert form is not None, "applies() promised"
    p = _planes(g, lean=lean)
    return {
        **vars(g),
        **loop(p.steps, 6 if p.held else 1),
        "held": p.held,
        "full": p.full,
        "last": p.last,
        "band": p.band,
        "bands": -(-g.out_h // p.band),
        "kept_rows": g.kernel_h - g.stride_h,
        "row_bytes": 4 * p.words,
        "plane_bytes": 4 * p.words * p.rows,
        "inside_rows": min(g.in_h, p.rows - g.pad_top),
        "channel_words": _channel_words(g),
        "shift": form.shift,
        **clamp_facts(node),
    }


def _scratch(node: Node, graph: Graph, *, lean: bool) -> int:
    del graph
    p = _planes(conv_geometry(node), lean=lean)
    return 16 * p.words * p.rows


def _constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    """C, then per channel its taps, start and multiplier as planes.j2 takes them."""
    g = conv_geometry(node)
    form = uniform(node, graph)
    assert form is not None, "applies() promised"
    w = form.weights[..., 0]
    first, second, last = w[..., 0:-1:2], w[..., 1::2], w[..., 2::2]
    even, odd = words_of_halves(first, second), words_of_halves(second, last)
    columns = (form.start[:, None], form.multiplier[:, None])
    if not _planes(g).held:
        if g.stride_w == 2:
            odd = words_of_halves(np.zeros_like(w[..., -1:]), w[..., -1:])
        taps = np.concatenate([even, odd], 2).reshape(len(w), -1)
        parts = (columns[0], taps, columns[1])
    elif g.stride_w == 1:
        parts = (np.concatenate([even, odd], 2).reshape(len(w), -1), *columns)
    else:
        ends = words_of_halves(w[:, [0, 2], 2], w[:, [1, 1], 2] * np.array([1, 0]))
        parts = (even.reshape(len(w), -1), ends, *columns)
    channels: Array = np.ravel(np.concatenate(parts, 1))
    return {"stream": Constant(np.concatenate([[form.offset], channels]).astype(np.int32))}


def _instructions(node: Node, graph: Graph, *, lean: bool) -> float:
    del graph
    g = conv_geometry(node)
    p = _planes(g, lean=lean)
    m, bands = g.kernel_w // 2, -(-g.out_h // p.band)
    steps = p.steps + (1 if p.last else 0)
    if p.held:
        row = g.out_w * (11.5 if g.stride_w == 1 else 12.2) + 8
    elif g.stride_w == 1:
        row = steps * (g.kernel_h * (4 * (m + 1) + m + 1) + 27) + 8
    else:
        row = steps * (g.kernel_h * (2 * (m + 1) + m + 1) + 20) + 8
    kept = (bands - 1) * ((g.kernel_h - g.stride_h) * p.words * 1.3 + 10)
    widened = g.in_h * (g.in_w * 1.5 + 5) + bands * 20
    return g.in_c * (g.out_h * row + bands * 40 + kept + widened) + 16 * p.words * p.rows


def _lead(node: Node, index: int, *, lean: bool) -> int | None:
    """In place, when no band writes pixels that the next one has yet to read."""
    g = conv_geometry(node)
    p = _planes(g, lean=lean)
    ends = (min(oy + p.band, g.out_h) for oy in range(0, g.out_h, p.band))
    bands = ((oy, (oy - 1) * g.stride_h + g.kernel_h - g.pad_top) for oy in ends)
    return IN_PLACE_ONLY if index == 0 and bands_fit_in_place(g, bands) else None


KERNELS = tuple(
    Kernel(
        name=f"depthwise_planes{'_lean' if lean else ''}_dsp",
        op="conv2d",
        template="targets/arm-dsp/kernels/depthwise_planes.c.j2",
        features=FEATURES,
        applies=partial(_applies, lean=lean),
        view=partial(_view, lean=lean),
        constants=_constants,
        scratch_bytes=partial(_scratch, lean=lean),
        lead_bytes=partial(_lead, lean=lean),
        instructions=partial(_instructions, lean=lean),
    )
    for lean in (False, True)
)

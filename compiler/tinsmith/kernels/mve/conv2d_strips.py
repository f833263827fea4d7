"""Convolution of few channels: a column of outputs reads a strip of the input, as wide as a window.

In a strip the windows of all its outputs are contiguous and overlap, so that a line is copied once
for all windows it is part of. The block is that of `conv2d_gemm`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...ir.graph import Graph, Node
from ..geometry import Geometry, clamp_facts, conv_geometry
from ..kernel import Kernel
from ..packing import unroll
from ._weights import FEATURES, channels, rescaling
from .conv2d_gemm import MAX_UNROLL, constants

_MAX_LINE = 16  # bytes of a window's line, one vector
_BAND = 8  # rows of outputs, where the output may be wanted close to the input
_SMALL_INPUT = 4096  # bytes that need no such care


def _applies(node: Node, graph: Graph) -> bool:
    g = conv_geometry(node)
    return (
        node.attrs.groups == 1
        and node.x.shape[0] == 1
        and g.kernel_h > 1
        and g.kernel_w * g.in_c <= _MAX_LINE
        and g.dilation_h == g.dilation_w == 1
        and g.out_c % 4 == 0
        and channels(node, graph) is not None
    )


def _band(g: Geometry) -> int:
    return g.out_h if g.in_h * g.row_bytes <= _SMALL_INPUT else min(_BAND, g.out_h)


def _chunks(g: Geometry) -> int:
    return -(-g.kernel_h * g.kernel_w * g.in_c // 16)


def _strip_bytes(g: Geometry) -> int:
    """With what the last window's vectors read beyond it."""
    before = (_band(g) - 1) * g.stride_h * g.kernel_w * g.in_c
    return before + 16 * _chunks(g)


def _view(node: Node, graph: Graph) -> Mapping[str, Any]:
    g = conv_geometry(node)
    line = g.kernel_w * g.in_c
    return {
        **vars(g),
        "chunks": _chunks(g),
        "tail": 0,
        "unroll": unroll(_chunks(g), MAX_UNROLL),
        "line": line,
        "x_step": g.stride_h * line,
        "y_step": g.out_row_bytes,
        "padded_c": g.out_c,
        "band": _band(g),
        "strip_bytes": _strip_bytes(g),
        **clamp_facts(node),
        **rescaling(node, graph).facts,
    }


def _lead(node: Node, index: int) -> int | None:
    """A band's input is needed until its last column of outputs is written."""
    if index != 0:
        return None
    g = conv_geometry(node)
    lead = 0
    for oy in range(0, g.out_h, _band(g)):
        first = min(max(0, oy * g.stride_h - g.pad_top), g.in_h)
        end = min(oy + _band(g), g.out_h)
        lead = max(lead, end * g.out_row_bytes - first * g.row_bytes)
    return lead


def _instructions(node: Node, graph: Graph) -> float:
    del graph
    g = conv_geometry(node)
    bands = -(-g.out_h // _band(g))
    pairs = g.out_h // 2 + bands * (_band(g) % 2)
    block = g.out_c // 4 * (14.3 * _chunks(g) + 12.5) + 20
    lines = g.out_h * g.stride_h + bands * g.kernel_h
    return g.out_w * (pairs * block + 6 * lines + bands * (60 + _strip_bytes(g) // 8))


KERNELS = (
    Kernel(
        name="conv2d_strips_mve",
        op="conv2d",
        template="targets/arm-mve/kernels/conv2d_strips.c.j2",
        features=FEATURES,
        applies=_applies,
        view=_view,
        constants=constants,
        scratch_bytes=lambda node, graph: _strip_bytes(conv_geometry(node)),
        lead_bytes=_lead,
        instructions=_instructions,
    ),
)

"""Convolution three columns wide: four pixels of a row × four channels per block.

A column of the input serves every pixel whose window it lies in, so that 16 channels of a line of
windows take 12 loads for 24 VMLADAVA.S8. The lines of one row of outputs are copied with their
border first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...ir.graph import Graph, Node
from ..geometry import Geometry, clamp_facts, conv_geometry
from ..kernel import Constant, Kernel
from ._weights import FEATURES, channels, rescaling

_AT_ONCE = 4  # pixels, and channels
_MAX_LOAD_OFFSET = 508  # of VLDRW, bytes
_MAX_UNROLL = 3
_PAIRS = ((0, 2), (1, 3))  # two channels at a time; narrowing leaves all four in order


def _columns(g: Geometry) -> int:
    """That four windows in a row cover."""
    return (_AT_ONCE - 1) * g.stride_w + g.kernel_w


def _width(g: Geometry) -> int:
    """Columns of the copied lines."""
    return (g.out_w - 1) * g.stride_w + g.kernel_w


def _applies(node: Node, graph: Graph) -> bool:
    g = conv_geometry(node)
    return (
        node.attrs.groups == 1
        and node.x.shape[0] == 1
        and g.kernel_w == 3
        and g.stride_w in (1, 2)
        and g.dilation_w == 1
        and g.pad_left < g.kernel_w
        and g.in_c % 16 == 0
        and g.out_c % _AT_ONCE == 0
        and g.out_w >= _AT_ONCE
        and (_columns(g) - 1) * g.in_c + g.in_c - 16 <= _MAX_LOAD_OFFSET
        and channels(node, graph) is not None
    )


def _view(node: Node, graph: Graph) -> Mapping[str, Any]:
    g = conv_geometry(node)
    chunks = g.in_c // 16
    return {
        **vars(g),
        "columns": _columns(g),
        "chunks": chunks,
        "unrolled": g.kernel_h * chunks <= _MAX_UNROLL,
        "line_bytes": _width(g) * g.in_c,
        "taken": min(g.in_w, _width(g) - g.pad_left),
        **clamp_facts(node),
        **rescaling(node, graph).facts,
    }


def _scratch(node: Node, graph: Graph) -> int:
    del graph
    g = conv_geometry(node)
    return g.kernel_h * _width(g) * g.in_c


def _constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    """Per two channels: their biases four times each, per line and 16 inputs the weights of each
    column for both, then the multipliers four times each or {multiplier, shift} of both."""
    r = rescaling(node, graph)
    w = graph.constant(node.inputs[1])
    out_c, kernel_h, kernel_w, in_c = w.shape
    w = w.reshape(out_c, kernel_h, kernel_w, in_c // 16, 16)
    stream: list[bytes] = []
    for base in range(0, out_c, _AT_ONCE):
        for pair in _PAIRS:
            both = [base + i for i in pair]
            scaling = np.stack(r.scales, 1)[both].repeat(4 if len(r.scales) == 1 else 1)
            parts = (np.repeat(r.bias[both], 4), w[both].transpose(1, 3, 2, 0, 4), scaling)
            stream += [np.ascontiguousarray(p).tobytes() for p in parts]
    return {"stream": Constant(np.frombuffer(b"".join(stream), np.int32))}


def _instructions(node: Node, graph: Graph) -> float:
    del graph
    g = conv_geometry(node)
    chunk = 6 + _columns(g) + 24
    pair = g.kernel_h * (chunk * (g.in_c // 16) + 3) + 12
    block = g.out_c // _AT_ONCE * (2 * pair + 8) + 12
    copied = g.kernel_h * (3 * _width(g) * g.in_c / 16 + 60)
    return g.out_h * (-(-g.out_w // _AT_ONCE) * block + copied + 80)


def _lead(node: Node, index: int) -> int | None:
    """The lines of a row are copied before its outputs are written."""
    if index != 0:
        return None
    g = conv_geometry(node)
    needed = (min(max(0, oy * g.stride_h - g.pad_top), g.in_h) for oy in range(1, g.out_h))
    ahead = (oy * g.out_row_bytes - first * g.row_bytes for oy, first in enumerate(needed, 1))
    return max(0, *ahead) if g.out_h > 1 else 0


KERNELS = (
    Kernel(
        name="conv2d_columns_mve",
        op="conv2d",
        template="targets/arm-mve/kernels/conv2d_columns.c.j2",
        features=FEATURES,
        applies=_applies,
        view=_view,
        constants=_constants,
        scratch_bytes=_scratch,
        lead_bytes=_lead,
        instructions=_instructions,
    ),
)

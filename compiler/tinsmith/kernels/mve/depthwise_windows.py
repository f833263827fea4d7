"""Depthwise convolution of any window, of layers that learn, too: eight channels transposed at a
time, whose planes are summed by blocks of eight windows (`_windows`).

Filters stay in natural rows, as the backward pass and the updates use them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...ir.graph import Graph, Node
from ...ops.conv2d import is_depthwise
from ..dsp.depthwise_trainable import filter_of, frozen, state
from ..geometry import Geometry, bands_fit_in_place, clamp_facts, conv_geometry
from ..kernel import IN_PLACE_ONLY, Constant, Kernel
from ._weights import FEATURES, bound_channels, channels
from ._window_planes import (
    AT_ONCE,
    MAX_OFFSET,
    MAX_PLANE,
    Planes,
    block_view,
    closing,
    farthest,
    image_place,
    table,
)
from ._windows import Block, Window, best_block
from .conv2d_trainable import rescaling_rows

_LEAST_BYTES, _MOST_BYTES = 2048, 3072  # scratch to aim at: a quarter of the input within these
_MAX_TAPS = 255


def _needed_w(g: Geometry) -> int:
    return (g.out_w - 1) * g.stride_w + (g.kernel_w - 1) * g.dilation_w + 1


def _planes_of(g: Geometry, band: int) -> Planes:
    """Of so many rows of outputs."""
    needed_w = _needed_w(g)
    taken = min(g.in_w, needed_w - g.pad_left)
    border = max(g.pad_left, needed_w - g.pad_left - taken)
    stride = max(taken + border, (g.kernel_w - 1) * g.dilation_w + 1)  # no two taps in one place
    lines = (band - 1) * g.stride_h + (g.kernel_h - 1) * g.dilation_h + 1
    return Planes(
        stride=stride,
        top=g.pad_top,
        left=g.pad_left,
        lines=lines,
        taken_h=min(g.in_h, lines - g.pad_top),
        taken_w=taken,
        bytes=(lines - 1) * stride + needed_w,
        in_h=g.in_h,
        row=g.row_bytes,
        pixel=g.in_c,
    )


def _band(g: Geometry) -> int:
    """Rows of outputs of a turn: the most that fit the scratch aimed at."""
    room = min(_MOST_BYTES, max(_LEAST_BYTES, g.in_h * g.row_bytes // 4))
    fitting = [n for n in range(1, g.out_h + 1) if AT_ONCE * _planes_of(g, n).bytes <= room]
    return max(fitting, default=1)


def _block(g: Geometry) -> Block | None:
    planes = _planes_of(g, _band(g))
    taps = tuple(
        (ky * g.dilation_h * planes.stride + kx * g.dilation_w, ky * g.kernel_w + kx)
        for ky in range(g.kernel_h)
        for kx in range(g.kernel_w)
    )
    window = Window(_band(g), g.out_w, g.stride_h * planes.stride, g.stride_w, taps)
    return best_block(window, closing(floats=False))


def _fits(g: Geometry) -> bool:
    if g.kernel_h * g.kernel_w > _MAX_TAPS or g.pad_left >= _needed_w(g):
        return False
    planes = _planes_of(g, _band(g))
    if planes.taken_h < 1 or planes.bytes > MAX_PLANE:
        return False
    block = _block(g)
    return block is not None and farthest(block, g.out_w * g.out_c, g.out_c) <= MAX_OFFSET


def _applies(node: Node, graph: Graph) -> bool:
    g = conv_geometry(node)
    return (
        is_depthwise(node)
        and node.x.shape[0] == 1
        and g.in_c == g.out_c
        and _fits(g)
        and channels(node, graph) is not None
    )


def _trainable_applies(node: Node, graph: Graph) -> bool:
    g = conv_geometry(node)
    return (
        node.attrs.groups == g.in_c == g.out_c
        and node.x.shape[0] == 1
        and _fits(g)
        and rescaling_rows(node, graph) is not None
    )


def _view(node: Node, graph: Graph) -> Mapping[str, Any]:
    g = conv_geometry(node)
    band, block = _band(g), _block(g)
    assert block is not None, "applies() promised"
    planes = _planes_of(g, band)
    pitch = g.out_w * g.out_c
    trained = node.op.name == "conv2d_trainable"
    return {
        **vars(g),
        "p": planes.view(node.x.zero_point, banded=band < g.out_h),
        "w": block_view(
            block, planes.bytes, pitch, g.out_c, floats=False, taps=g.kernel_h * g.kernel_w
        ),
        "image": image_place(planes, [block]),
        "band": band,
        "bands": -(-g.out_h // band),
        "filter": filter_of(node, 1)[0] if trained else "filter",
        "uniform": False,
        "scale_up": 0 if trained else bound_channels(node, graph).scale_up,
        **clamp_facts(node),
    }


def _scratch(node: Node, graph: Graph) -> int:
    del graph
    g = conv_geometry(node)
    block = _block(g)
    assert block is not None, "applies() promised"
    return image_place(_planes_of(g, _band(g)), [block]) + block.image_bytes


def _table(node: Node) -> Constant:
    g = conv_geometry(node)
    block = _block(g)
    assert block is not None, "applies() promised"
    return Constant(table(block, g.out_w * g.out_c, g.out_c, floats=False))


def _constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    c = bound_channels(node, graph)
    return {
        "filter": Constant(np.ravel(graph.constant(node.inputs[1]))),
        "bias": Constant(c.bias),
        "rows": Constant(np.stack([c.multiplier, c.shift], 1).ravel()),
        "table": _table(node),
    }


def _trainable_constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    rows = rescaling_rows(node, graph)
    assert rows is not None, "applies() promised"
    return frozen(node, graph) | {"rows": Constant(np.ravel(rows)), "table": _table(node)}


def _lead(node: Node, index: int) -> int | None:
    """In place, when no band writes pixels that a later one has yet to read; else so far below the
    input that none does."""
    if index != 0:
        return None
    g = conv_geometry(node)
    band = _band(g)
    starts = [min(n, g.out_h - band) for n in range(0, g.out_h, band)]
    needed = [max(0, n * g.stride_h - g.pad_top) for n in starts]
    done = [n + band for n in starts]
    if bands_fit_in_place(g, zip(done, needed[1:], strict=False)):
        return IN_PLACE_ONLY
    ends = zip(done, needed, strict=True)
    return max(n * g.out_row_bytes - min(row, g.in_h) * g.row_bytes for n, row in ends)


def _instructions(node: Node, graph: Graph) -> float:
    del graph
    g = conv_geometry(node)
    band, block = _band(g), _block(g)
    assert block is not None, "applies() promised"
    planes, bands = _planes_of(g, band), -(-g.out_h // band)
    low, high = node.attrs.q_clamp
    each = closing(
        floats=False,
        masked=len(block.first_half) < 4,
        more=2 * ((low > -128) + (high < 127)),
    )
    lines = planes.lines * bands if bands > 1 else planes.taken_h
    group = planes.instructions(lines) + bands * (55 + block.image_bytes / 16)
    channel = bands * (block.instructions(each) + 12)
    return -(-g.in_c // AT_ONCE) * group + g.in_c * channel + planes.bytes + 60


_TEMPLATE = "targets/arm-mve/kernels/depthwise_windows.c.j2"
KERNELS = (
    Kernel(
        name="depthwise_windows_mve",
        op="conv2d",
        template=_TEMPLATE,
        features=FEATURES,
        applies=_applies,
        view=_view,
        constants=_constants,
        scratch_bytes=_scratch,
        lead_bytes=_lead,
        instructions=_instructions,
    ),
    Kernel(
        name="depthwise_trainable_mve",
        op="conv2d_trainable",
        template=_TEMPLATE,
        features=FEATURES,
        applies=_trainable_applies,
        view=_view,
        constants=_trainable_constants,
        state=state,
        scratch_bytes=_scratch,
        lead_bytes=_lead,
        instructions=_instructions,
    ),
)

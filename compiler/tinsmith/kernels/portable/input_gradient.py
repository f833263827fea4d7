"""Portable gradients of a convolution's input: pointwise, depthwise, and any other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...ir.dtypes import DType
from ...ir.graph import Graph, Node, Value
from ...ops._convolution import is_pointwise
from ...ops.conv2d_input_gradient import InputGradientAttrs
from ..kernel import Constant, Kernel
from . import _filters

FILTERS = 2  # position of `frozen` among the inputs


def view(node: Node, graph: Graph) -> Mapping[str, Any]:
    """in_*: of dx; out_*: of g. real: g is float32."""
    del graph
    attrs: InputGradientAttrs = node.attrs
    _, in_h, in_w, in_c = attrs.shape
    _, out_h, out_w, out_c = node.x.shape
    kernel_h, kernel_w = _kernel(node)
    return {
        "in_h": in_h,
        "in_w": in_w,
        "in_c": in_c,
        "out_h": out_h,
        "out_w": out_w,
        "out_c": out_c,
        "kernel_h": kernel_h,
        "kernel_w": kernel_w,
        "stride_h": attrs.strides[0],
        "stride_w": attrs.strides[1],
        "dilation_h": attrs.dilations[0],
        "dilation_w": attrs.dilations[1],
        "pad_top": attrs.pads[0],
        "pad_left": attrs.pads[1],
        "groups": attrs.groups,
        "out_per_group": out_c // attrs.groups,
        "pixels": in_h * in_w,
        "parts": _filters.parts(node, FILTERS, in_c // attrs.groups),
        "real": node.x.dtype is DType.FLOAT32,
    }


@dataclass(frozen=True)
class Phase:
    """The positions r, r + stride, … of an input axis: their taps are the same.

    taps: (tap, output position of it, less the number of the position in the phase).
    """

    start: int
    positions: int
    taps: tuple[tuple[int, int], ...]


def phases(node: Node, axis: int) -> list[Phase]:
    """Of height (0) or width (1)."""
    attrs: InputGradientAttrs = node.attrs
    stride, pad, dilation = attrs.strides[axis], attrs.pads[axis], attrs.dilations[axis]
    found: list[Phase] = []
    for start in range(min(stride, attrs.shape[axis + 1])):
        distances = [(tap, start + pad - tap * dilation) for tap in range(_kernel(node)[axis])]
        taps = tuple((tap, d // stride) for tap, d in distances if d % stride == 0)
        found.append(Phase(start, -(-(attrs.shape[axis + 1] - start) // stride), taps))
    return found


def depthwise_view(node: Node, graph: Graph) -> Mapping[str, Any]:
    """A line is one row of g with a border, wide enough for every tap."""
    facts = view(node, graph)
    rows, columns = phases(node, 0), phases(node, 1)
    left = _margins(node)[0]
    gcd = math.gcd(facts["stride_h"], facts["dilation_h"])
    blocks = -(-facts["in_h"] // facts["stride_h"])
    return {
        **facts,
        "filter": facts["parts"][0]["name"],
        "left_elements": left * facts["in_c"],
        "line_elements": _line_elements(node),
        "row_step": facts["dilation_h"] // gcd,
        "blocks": blocks,
        "whole_phases": facts["in_h"] - (blocks - 1) * facts["stride_h"],
        "row_phases": [
            {
                "offset": p.taps[0][1] if p.taps else 0,
                "first": p.taps[0][0] if p.taps else 0,
                "step": facts["stride_h"] // gcd,
                "count": len(p.taps),
            }
            for p in rows
        ],
        "column_phases": [
            {
                "start": p.start,
                "pixels": p.positions,
                "taps": [(tap, at + left) for tap, at in p.taps],
            }
            for p in columns
        ],
    }


def constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    return _filters.constants(node, FILTERS, graph)


def state(node: Node, graph: Graph) -> Mapping[str, Value]:
    return _filters.state(node, FILTERS, graph)


def lead_bytes(node: Node, index: int) -> int | None:
    """Of g under dx, which is written forward: g is needed from the first row that row `iy` of dx
    or a later one meets."""
    if index != 0:
        return None
    return _rows_lead(node, 0)


def depthwise_lead(node: Node, index: int) -> int | None:
    """As `lead_bytes`, but a row's lines are in scratch before it is written."""
    if index != 0:
        return None
    return _rows_lead(node, 1)


def pointwise_lead(node: Node, index: int) -> int | None:
    """Pairs of pixels are written while their own g is read."""
    if index != 0:
        return None
    _, height, width, in_c = node.y.shape
    pixels, out_c = height * width, node.x.shape[3]
    ends = [(p, min(p + 2, pixels)) for p in range(0, pixels, 2)]
    return max(4 * in_c * end - out_c * p for p, end in ends)


def _rows_lead(node: Node, ahead: int) -> int:
    _, in_h, in_w, in_c = node.attrs.shape
    out_h, row_bytes = node.x.shape[1], node.x.bytes // node.x.shape[1]
    stride = node.attrs.strides[0]
    lead, lowest = 0, out_h
    needed = [out_h] * (in_h + ahead)  # by row iy and all after it
    by_start = {p.start: p for p in phases(node, 0)}
    for iy in reversed(range(in_h)):
        met = [iy // stride + at for _, at in by_start[iy % stride].taps]
        lowest = min([lowest, *(oy for oy in met if 0 <= oy < out_h)])
        needed[iy] = lowest
    for iy in range(in_h):
        first = needed[iy + ahead]
        if first < out_h:
            lead = max(lead, (iy + 1) * 4 * in_w * in_c - first * row_bytes)
    return lead


def _kernel(node: Node) -> tuple[int, int]:
    _, kernel_h, kernel_w, _ = node.inputs[FILTERS].type.shape
    return kernel_h, kernel_w


def _margins(node: Node) -> tuple[int, int]:
    """Pixels to the left and right of a row of g that its taps reach."""
    columns = phases(node, 1)
    left = max((-at for p in columns for _, at in p.taps), default=0)
    right = max((p.positions - 1 + at for p in columns for _, at in p.taps), default=0)
    return max(0, left), max(0, right - (node.x.shape[2] - 1))


def _line_elements(node: Node) -> int:
    return (sum(_margins(node)) + node.x.shape[2]) * node.x.shape[3]


def applies(node: Node, graph: Graph) -> bool:
    del graph
    split = node.inputs[FILTERS].type.elements and node.inputs[FILTERS + 1].type.elements
    return node.x.shape[0] == 1 and not (split and node.attrs.groups > 1)


def pointwise_applies(node: Node, graph: Graph) -> bool:
    plain = is_pointwise(_kernel(node), node.attrs) and node.attrs.strides == (1, 1)
    return plain and applies(node, graph)


def depthwise_applies(node: Node, graph: Graph) -> bool:
    single = node.attrs.groups == node.x.shape[3] == node.attrs.shape[3]
    return single and applies(node, graph)


def _depthwise_scratch(node: Node, graph: Graph) -> int:
    del graph
    return max(1, *(len(p.taps) for p in phases(node, 0))) * _line_elements(node)


def general_scratch(node: Node, graph: Graph) -> int:
    del graph
    return 8 * math.prod(_kernel(node))


KERNELS = (
    Kernel(
        name="conv2d_input_gradient",
        op="conv2d_input_gradient",
        template="ops/conv2d_input_gradient.c.j2",
        applies=applies,
        view=view,
        constants=constants,
        state=state,
        scratch_bytes=general_scratch,
        lead_bytes=lead_bytes,
        instructions=lambda node, graph: 4.0 * node.op.macs(node) + 30.0 * node.y.elements,
    ),
    Kernel(
        name="pointwise_input_gradient",
        op="conv2d_input_gradient",
        template="ops/pointwise_input_gradient.c.j2",
        applies=pointwise_applies,
        view=view,
        constants=constants,
        state=state,
        lead_bytes=pointwise_lead,
        instructions=lambda node, graph: 2.3 * node.op.macs(node) + 10.0 * node.y.elements,
    ),
    Kernel(
        name="depthwise_input_gradient",
        op="conv2d_input_gradient",
        template="ops/depthwise_input_gradient.c.j2",
        applies=depthwise_applies,
        view=depthwise_view,
        constants=constants,
        state=state,
        scratch_bytes=_depthwise_scratch,
        lead_bytes=depthwise_lead,
        instructions=lambda node, graph: 2.8 * node.op.macs(node) + 15.0 * node.y.elements,
    ),
)

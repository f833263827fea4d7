"""Portable convolutions that beat the general loop nest: as matrix product, and depthwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...ir.dtypes import DType
from ...ir.graph import Graph, Node
from ...ops.conv2d import is_depthwise
from ..geometry import Geometry, conv_geometry, forward_lead
from ..kernel import Constant, Kernel
from . import _tile
from .conv2d import view

_UNROLLED_TAPS = 25
_MOST_PIXELS = 5  # with three taps and a pointer or two, what a Cortex-M3 has registers for


def gemm_applies(node: Node, graph: Graph) -> bool:
    """Not to what the depthwise kernel does better in every way."""
    return not is_depthwise(node) and node.x.shape[0] == 1 and _tile.applies(node, graph)


def gemm_view(node: Node, graph: Graph) -> Mapping[str, Any]:
    """depth: the taps of one filter, all read from scratch."""
    g = conv_geometry(node)
    return {
        **view(node, graph),
        **_tile.facts(node, graph),
        "groups": node.attrs.groups,
        "pixels": g.pixels,
        "pointwise": g.is_pointwise and node.attrs.groups == 1,
        "depth": _depth(node),
    }


def gemm_constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    filters = graph.constant(node.inputs[1])
    w = _tile.interleaved(filters.reshape(len(filters), -1), 4, node.attrs.groups)
    return {"w": w} | _tile.channel_constants(node, graph)


def gemm_lead(node: Node, index: int) -> int | None:
    """Both windows of a pair of pixels are read before either is written."""
    if index != 0 or node.x.shape[0] != 1:
        return None
    g = conv_geometry(node)
    pair_over_two_rows = g.out_c if node.attrs.groups > 1 else 0
    return (forward_lead(g) + pair_over_two_rows) * node.x.dtype.bytes


def depthwise_applies(node: Node, graph: Graph) -> bool:
    return is_depthwise(node) and node.x.shape[0] == 1 and _tile.applies(node, graph)


def depthwise_view(node: Node, graph: Graph) -> Mapping[str, Any]:
    return {**view(node, graph), **_tile.facts(node, graph), **depthwise_lines(node)}


def depthwise_lines(node: Node) -> dict[str, Any]:
    """A line is one padded input row; `copied_elements` of it come from the input.

    columns: of a line, from the first of `count` pixels on, with the pairs (pixel, tap) that
    read it.
    """
    g = conv_geometry(node)
    count = _pixels_at_once(g)
    left = g.pad_left * g.in_c
    line = _line_elements(g)
    return {
        "line_elements": line,
        "left_elements": left,
        "copied_elements": min(g.in_w * g.in_c, line - left),
        "unrolled": g.kernel_h * g.kernel_w <= _UNROLLED_TAPS,
        "count": count,
        "columns": _columns(g, count),
    }


def _columns(g: Geometry, count: int) -> list[tuple[int, list[tuple[int, int]]]]:
    uses: dict[int, list[tuple[int, int]]] = {}
    for pixel in range(count):
        for tap in range(g.kernel_w):
            uses.setdefault(pixel * g.stride_w + tap * g.dilation_w, []).append((pixel, tap))
    return sorted(uses.items())


def _pixels_at_once(g: Geometry) -> int:
    """As many as cost the least: of those left over at the end of a row some are done again."""
    most = _MOST_PIXELS if g.kernel_w <= _MOST_PIXELS - 2 else 2

    def cost(count: int) -> int:
        inputs, taps = len(_columns(g, count)), g.kernel_w
        block = g.kernel_h * (inputs + taps + count * taps) + 8 * count + 10
        return -(-g.out_w // count) * block

    return min(range(1, min(most, g.out_w) + 1), key=cost)


def depthwise_constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    w = Constant(graph.constant(node.inputs[1]).ravel())
    return {"w": w} | _tile.channel_constants(node, graph)


def depthwise_lead(node: Node, index: int) -> int | None:
    """An output row is written when its input lines are in scratch: later rows need the rest."""
    if index != 0 or node.x.shape[0] != 1:
        return None
    g = conv_geometry(node)
    lead = 0
    for row in range(1, g.out_h):
        needed = min(max(0, row * g.stride_h - g.pad_top), g.in_h)
        lead = max(lead, row * g.out_row_bytes - needed * g.row_bytes)
    return lead * node.x.dtype.bytes


def _line_elements(g: Geometry) -> int:
    return ((g.out_w - 1) * g.stride_w + (g.kernel_w - 1) * g.dilation_w + 1) * g.in_c


def _depth(node: Node) -> int:
    _, kernel_h, kernel_w, per_group = node.inputs[1].type.shape
    return kernel_h * kernel_w * per_group


def _gemm_scratch(node: Node, graph: Graph) -> int:
    del graph
    return _depth(node) * min(2, conv_geometry(node).pixels) * node.x.dtype.bytes


def _gemm_instructions(node: Node, graph: Graph) -> float:
    del graph
    g = conv_geometry(node)
    gather = (1.3 if g.is_pointwise else 2.5) * _depth(node) * node.attrs.groups * g.pixels
    return 2.3 * node.op.macs(node) + 20.0 * node.y.elements + gather


def depthwise_scratch(node: Node, graph: Graph) -> int:
    del graph
    g = conv_geometry(node)
    return g.kernel_h * _line_elements(g) * node.x.dtype.bytes


def _depthwise_instructions(node: Node, graph: Graph) -> float:
    del graph
    return 2.8 * node.op.macs(node) + 22.0 * node.y.elements


def _gemm(suffix: str, dtype: DType) -> Kernel:
    return Kernel(
        name=f"conv2d_gemm_{suffix}",
        op="conv2d",
        template="ops/conv2d_gemm.c.j2",
        dtype=dtype,
        applies=gemm_applies,
        view=gemm_view,
        constants=gemm_constants,
        scratch_bytes=_gemm_scratch,
        lead_bytes=gemm_lead,
        instructions=_gemm_instructions,
    )


def _depthwise(suffix: str, dtype: DType) -> Kernel:
    return Kernel(
        name=f"conv2d_depthwise_{suffix}",
        op="conv2d",
        template="ops/conv2d_depthwise.c.j2",
        dtype=dtype,
        applies=depthwise_applies,
        view=depthwise_view,
        constants=depthwise_constants,
        scratch_bytes=depthwise_scratch,
        lead_bytes=depthwise_lead,
        instructions=_depthwise_instructions,
    )


KERNELS = (
    _gemm("s8", DType.INT8),
    _depthwise("s8", DType.INT8),
    _gemm("f32", DType.FLOAT32),
    _depthwise("f32", DType.FLOAT32),
)

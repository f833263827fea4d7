"""Updates of the weights of depthwise layers: eight taps of a channel per block.

The gradient lies where a plane of the input has the windows it belongs to, so what a tap sums is
one run of bytes by another, the tap's distance further on. Residual8 as in `weight_update`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...ir.graph import Graph, Node
from ..kernel import Kernel
from ..portable import velocity
from ..portable import weight_update as portable
from ._weights import FEATURES
from ._window_planes import AT_ONCE, MAX_OFFSET, Planes
from .weight_update import is_fused

_VECTOR = 16
_MOST_BYTES = 4096


def _planes(node: Node, graph: Graph) -> Planes:
    facts = portable.depthwise_view(node, graph)
    plane_w, left, taken = facts["plane_w"], facts["pad_left"], facts["copied_w"]
    stride = taken + max(left, plane_w - left - taken)
    return Planes(
        stride=stride,
        top=facts["pad_top"],
        left=left,
        lines=facts["plane_h"],
        taken_h=facts["copied_h"],
        taken_w=taken,
        bytes=(facts["plane_h"] - 1) * stride + plane_w,
        in_h=facts["in_h"],
        row=facts["in_w"] * facts["saved_c"],
        pixel=facts["saved_c"],
    )


def _offsets(node: Node, graph: Graph) -> list[list[int]]:
    """Of the taps in a plane, by blocks."""
    _, kernel_h, kernel_w, _ = portable.filters(node).shape
    stride, dilations = _planes(node, graph).stride, node.attrs.dilations
    found = [
        y * dilations[0] * stride + x * dilations[1]
        for y in range(kernel_h)
        for x in range(kernel_w)
    ]
    return [found[i : i + AT_ONCE] for i in range(0, len(found), AT_ONCE)]


def _g_bytes(node: Node, graph: Graph) -> int:
    """Of a channel's gradient, laid out like its plane, in whole vectors."""
    _, out_h, out_w, _ = node.x.shape
    down, across = node.attrs.strides
    last = (out_h - 1) * down * _planes(node, graph).stride + (out_w - 1) * across
    return (last // _VECTOR + 1) * _VECTOR


def _g_place(node: Node, graph: Graph) -> int:
    """In scratch: behind eight planes and what the last one's taps read behind it."""
    planes = _planes(node, graph)
    reads = _offsets(node, graph)[-1][-1] + _g_bytes(node, graph)
    return -(-(AT_ONCE * planes.bytes + max(0, reads - planes.bytes)) // 8) * 8


def _applies(node: Node, graph: Graph) -> bool:
    if not (portable.takes_int8(node) and portable.is_depthwise(node)):
        return False
    planes = _planes(node, graph)
    inside = planes.taken_h > 0 and planes.taken_w > 0
    return inside and node.x.shape[3] <= MAX_OFFSET and _scratch(node, graph) <= _MOST_BYTES


def _scratch(node: Node, graph: Graph) -> int:
    sums = 0 if is_fused(node) else 4 * AT_ONCE * len(_offsets(node, graph))
    return _g_place(node, graph) + AT_ONCE * _g_bytes(node, graph) + sums


def _view(node: Node, graph: Graph) -> Mapping[str, Any]:
    facts, offsets = portable.depthwise_view(node, graph), _offsets(node, graph)
    taps, g_bytes = sum(map(len, offsets)), _g_bytes(node, graph)
    return {
        **facts,
        "p": _planes(node, graph).view(facts["zero_point"]),
        "offsets": offsets,
        "taps": taps,
        "chunks": g_bytes // _VECTOR,
        "g_bytes": g_bytes,
        "g_place": _g_place(node, graph),
        "fused": is_fused(node),
        "cut": taps % AT_ONCE != 0,
    }


def _instructions(node: Node, graph: Graph) -> float:
    planes, offsets = _planes(node, graph), _offsets(node, graph)
    channels = node.inputs[2].type.shape[3]
    taps, chunks = sum(map(len, offsets)), _g_bytes(node, graph) // _VECTOR
    rule = 30 + 9 * (taps % AT_ONCE > 0) if is_fused(node) else 2
    row = 70 + 4 * chunks + len(offsets) * (rule + 21) + chunks * (2 * taps + 4 * len(offsets))
    each = row + (0 if is_fused(node) else 34 * taps)
    group = planes.instructions(planes.taken_h) + 5.5 * node.x.shape[1] * node.x.shape[2] + 40
    cleared = planes.bytes + AT_ONCE * chunks * 2
    return -(-channels // AT_ONCE) * group + channels * each + cleared + 60


_UPDATE = Kernel(
    name="depthwise_weight_update_mve",
    op="weight_update",
    template="targets/arm-mve/kernels/depthwise_weight_update.c.j2",
    features=FEATURES | {"fpu"},
    applies=_applies,
    view=_view,
    constants=portable.constants,
    state=portable.state,
    scratch_bytes=_scratch,
    instructions=_instructions,
)

KERNELS = (_UPDATE, velocity.accumulates(_UPDATE))

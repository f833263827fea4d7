"""conv2d_input_gradient of a depthwise layer: four channels after the other, with a float unit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...ir.graph import Graph, Node
from ..kernel import Kernel
from ..portable import input_gradient as portable
from ._weights import FEATURES
from .depthwise_trainable import MAX_PLANE, filter_of, stream_bytes


def _axis(node: Node, axis: int) -> tuple[list[portable.Phase], int, int]:
    """The phases of an axis; margin before g in its plane; size of the plane."""
    phases = portable.phases(node, axis)
    before = max(0, *(-at for p in phases for _, at in p.taps))
    last = max(p.positions - 1 + at for p in phases for _, at in p.taps)
    return phases, before, before + max(last + 1, node.x.shape[axis + 1])


def _plane(node: Node) -> tuple[int, int]:
    return _axis(node, 0)[2], _axis(node, 1)[2]


def _taps(node: Node) -> int:
    _, kernel_h, kernel_w, _ = node.inputs[2].type.shape
    return kernel_h * kernel_w


def _applies(node: Node, graph: Graph) -> bool:
    del graph
    attrs = node.attrs
    channels = attrs.shape[3]
    if not attrs.groups == channels == node.x.shape[3] or node.x.shape[0] != 1:
        return False
    if not all(p.taps for axis in (0, 1) for p in portable.phases(node, axis)):
        return False
    plane_h, plane_w = _plane(node)
    return channels % 4 == 0 and _taps(node) < 2**8 and 4 * plane_h * plane_w <= MAX_PLANE


def _view(node: Node, graph: Graph) -> Mapping[str, Any]:
    (rows, top, plane_h), (columns, left, plane_w) = _axis(node, 0), _axis(node, 1)
    facts = portable.view(node, graph)
    in_w, in_c, kernel_w = facts["in_w"], facts["in_c"], facts["kernel_w"]
    phases = [
        {
            "rows": r.positions,
            "columns": c.positions,
            "start": (r.start * in_w + c.start) * in_c,
            "order": tuple(ky * kernel_w + kx for ky, _ in r.taps for kx, _ in c.taps),
            "offsets": [
                4 * ((oy + top) * plane_w + ox + left) for _, oy in r.taps for _, ox in c.taps
            ],
        }
        for r in rows
        for c in columns
    ]
    return {
        **facts,
        "phases": phases,
        "plane_h": plane_h,
        "plane_w": plane_w,
        "plane_start": top * plane_w + left,
        "stream_bytes": _stream(node),
        "filter": filter_of(node, portable.FILTERS)[0],
    }


def _stream(node: Node) -> int:
    return stream_bytes(
        max(len(p.taps) for p in portable.phases(node, 0))
        * max(len(p.taps) for p in portable.phases(node, 1))
    )


def _scratch(node: Node, graph: Graph) -> int:
    del graph
    plane_h, plane_w = _plane(node)
    return _stream(node) + 4 * plane_h * plane_w


def _instructions(node: Node, graph: Graph) -> float:
    del graph
    quads, taps = node.x.shape[3] / 4, _taps(node)
    return 1.75 * node.op.macs(node) + 5.0 * node.y.elements + quads * (10 * taps + 100)


KERNELS = (
    Kernel(
        name="depthwise_input_gradient_dsp",
        op="conv2d_input_gradient",
        template="targets/arm-dsp/kernels/depthwise_input_gradient.c.j2",
        features=FEATURES | {"fpu"},
        applies=_applies,
        view=_view,
        constants=portable.constants,
        state=portable.state,
        scratch_bytes=_scratch,
        instructions=_instructions,
    ),
)

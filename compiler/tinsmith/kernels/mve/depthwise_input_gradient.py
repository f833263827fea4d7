"""conv2d_input_gradient of a depthwise layer: eight channels transposed at a time, whose planes are
summed by blocks of eight windows (`_windows`) into floats.

Along each axis pixels with the same rest by the stride have the same taps: each such phase has its
own window.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...ir.graph import Graph, Node
from ..dsp.depthwise_trainable import filter_of
from ..kernel import Constant, Kernel
from ..portable import input_gradient as portable
from ._weights import FEATURES
from ._window_planes import (
    AT_ONCE,
    MAX_PLANE,
    Planes,
    block_view,
    closing,
    image_place,
    table,
)
from ._windows import Block, Window, best_block

_MAX_TAPS = 255
_MAX_SCRATCH = 8192  # above, too much memory for what it saves


@dataclass(frozen=True)
class _Axis:
    """before: margin before g in its plane; size: of the plane; reach: of one window."""

    phases: list[portable.Phase]
    before: int
    size: int

    @classmethod
    def of(cls, node: Node, axis: int) -> _Axis:
        phases = portable.phases(node, axis)
        before = max(0, *(-at for p in phases for _, at in p.taps))
        last = max(p.positions - 1 + at for p in phases for _, at in p.taps)
        return cls(phases, before, before + max(last + 1, node.x.shape[axis + 1]))

    @property
    def reach(self) -> int:
        ends = ([at for _, at in p.taps] for p in self.phases)
        return max(max(at) - min(at) for at in ends) + 1


def _planes(node: Node) -> Planes:
    rows, columns = _Axis.of(node, 0), _Axis.of(node, 1)
    _, height, width, channels = node.x.shape
    border = max(columns.before, columns.size - columns.before - width)
    stride = max(width + border, columns.reach)  # no two taps in one place
    return Planes(
        stride=stride,
        top=rows.before,
        left=columns.before,
        lines=rows.size,
        taken_h=height,
        taken_w=width,
        bytes=(rows.size - 1) * stride + columns.size,
        in_h=height,
        row=width * channels,
        pixel=channels,
    )


def _pitch(node: Node) -> tuple[int, int]:
    """Bytes of dx from one output of a phase to the next, down and across."""
    strides = node.attrs.strides
    _, _, width, channels = node.attrs.shape
    return 4 * strides[0] * width * channels, 4 * strides[1] * channels


def _phases(node: Node) -> list[tuple[portable.Phase, portable.Phase]]:
    return [(r, c) for r in portable.phases(node, 0) for c in portable.phases(node, 1)]


def _blocks(node: Node) -> list[Block | None]:
    planes = _planes(node)
    kernel_w = node.inputs[portable.FILTERS].type.shape[2]
    found: list[Block | None] = []
    for r, c in _phases(node):
        taps = sorted(
            ((oy + planes.top) * planes.stride + ox + planes.left, ky * kernel_w + kx)
            for ky, oy in r.taps
            for kx, ox in c.taps
        )
        window = Window(r.positions, c.positions, planes.stride, 1, tuple(taps))
        found.append(best_block(window, closing(floats=True)))
    return found


def _bound_blocks(node: Node) -> list[Block]:
    return [b for b in _blocks(node) if b is not None]


def _applies(node: Node, graph: Graph) -> bool:
    del graph
    attrs = node.attrs
    _, kernel_h, kernel_w, _ = node.inputs[portable.FILTERS].type.shape
    if not attrs.groups == attrs.shape[3] == node.x.shape[3] or node.x.shape[0] != 1:
        return False
    if kernel_h * kernel_w > _MAX_TAPS:
        return False
    if not all(p.taps for axis in (0, 1) for p in portable.phases(node, axis)):
        return False
    planes = _planes(node)
    small = planes.bytes <= MAX_PLANE and AT_ONCE * planes.bytes <= _MAX_SCRATCH
    return small and None not in _blocks(node)


def _tables(node: Node) -> list[np.ndarray[Any, Any]]:
    return [table(b, *_pitch(node), floats=True) for b in _bound_blocks(node)]


def _view(node: Node, graph: Graph) -> Mapping[str, Any]:
    facts, planes, blocks = portable.view(node, graph), _planes(node), _bound_blocks(node)
    sizes = [t.size for t in _tables(node)]
    phases = [
        {
            "w": block_view(
                b,
                planes.bytes,
                *_pitch(node),
                floats=True,
                taps=facts["kernel_h"] * facts["kernel_w"],
            ),
            "start": (r.start * facts["in_w"] + c.start) * facts["in_c"],
            "table": sum(sizes[:i]),
        }
        for i, ((r, c), b) in enumerate(zip(_phases(node), blocks, strict=True))
    ]
    return {
        **facts,
        "p": planes.view(0),
        "phases": phases,
        "image": image_place(planes, blocks),
        "filter": filter_of(node, portable.FILTERS)[0],
    }


def _constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    return {**portable.constants(node, graph), "table": Constant(np.concatenate(_tables(node)))}


def _scratch(node: Node, graph: Graph) -> int:
    del graph
    blocks = _bound_blocks(node)
    return image_place(_planes(node), blocks) + max(b.image_bytes for b in blocks)


def _instructions(node: Node, graph: Graph) -> float:
    del graph
    planes, blocks = _planes(node), _bound_blocks(node)
    channels = node.x.shape[3]
    each = sum(
        b.instructions(closing(floats=True, masked=len(b.first_half) < 4)) + 9 for b in blocks
    )
    group = planes.instructions(planes.taken_h) + sum(40 + b.image_bytes / 16 for b in blocks) + 15
    return -(-channels // AT_ONCE) * group + channels * each + planes.bytes + 60


KERNELS = (
    Kernel(
        name="depthwise_input_gradient_mve",
        op="conv2d_input_gradient",
        template="targets/arm-mve/kernels/depthwise_input_gradient.c.j2",
        features=FEATURES | {"fpu"},
        applies=_applies,
        view=_view,
        constants=_constants,
        state=portable.state,
        scratch_bytes=_scratch,
        instructions=_instructions,
    ),
)

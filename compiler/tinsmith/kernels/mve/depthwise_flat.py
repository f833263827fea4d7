"""Depthwise 3×3 convolution over narrow planes: eight channels transposed at a time, row after row.

The border right of a row is the one left of the next, so 16 bytes in a row hold three lines of
several windows, and outputs follow one another in memory whatever the width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import lcm
from typing import Any

from ...ir.graph import Graph, Node
from ...ops.conv2d import is_depthwise
from ..geometry import Geometry, clamp_facts, conv_geometry
from ..kernel import IN_PLACE_ONLY, Constant, Kernel
from ._weights import FEATURES, channels, rescaling
from .depthwise_planes import TAPS_BYTES, record_bytes, records

_AT_ONCE = 8  # channels, and outputs of a block
_VECTOR = 16
_MAX_STARTS = 4  # vectors of taps in registers
_MAX_PLANE, _MAX_OFFSET = 1024, 2**16 - 1  # bytes; the second of a scatter's lane


@dataclass(frozen=True)
class _Flat:
    """stride: bytes from row to row. starts: outputs of one load at most. turn: outputs of one turn
    of the loop, whole rows and whole blocks."""

    g: Geometry

    @property
    def stride(self) -> int:
        g = self.g
        return g.in_w + max(g.pad_left, g.out_w + 2 - g.pad_left - g.in_w, 0)

    @property
    def starts(self) -> int:
        return min(_MAX_STARTS, _VECTOR - (2 * self.stride + 3) + 1)

    @property
    def turn(self) -> int:
        return lcm(_AT_ONCE, self.g.out_w)

    @property
    def plane_bytes(self) -> int:
        g = self.g
        data = (g.out_h + 2) * self.stride + g.pad_left
        return max(data, self.place(g.pixels - 1) + _VECTOR)

    def place(self, output: int) -> int:
        """Where its window starts."""
        return output // self.g.out_w * self.stride + output % self.g.out_w

    def loads(self, first: int) -> list[tuple[int, list[int]]]:
        """Of the block of eight outputs from `first` on: where, and the taps to sum with."""
        found: list[tuple[int, list[int]]] = []
        for output in range(first, first + _AT_ONCE):
            at = self.place(output)
            if found and at - found[-1][0] < self.starts:
                found[-1][1].append(at - found[-1][0])
            else:
                found.append((at, [0]))
        return found

    @property
    def whole(self) -> int:
        return self.g.pixels // self.turn

    @property
    def rest(self) -> list[int]:
        """The first outputs of the blocks after the last turn, counted from there; the last one
        ends with the plane."""
        left = self.g.pixels % self.turn
        return [min(i, left - _AT_ONCE) for i in range(0, left, _AT_ONCE)]

    @property
    def blocks(self) -> list[int]:
        """All of them."""
        turns = range(0, self.whole * self.turn, _AT_ONCE)
        return [*turns, *(self.whole * self.turn + i for i in self.rest)]


def _applies(node: Node, graph: Graph) -> bool:
    g = conv_geometry(node)
    f = _Flat(g)
    return (
        is_depthwise(node)
        and node.x.shape[0] == 1
        and g.in_c == g.out_c
        and g.kernel_h == g.kernel_w == 3
        and g.stride_h == g.stride_w == g.dilation_h == g.dilation_w == 1
        and g.pad_left < 3
        and f.starts > 0
        and g.pixels >= _AT_ONCE
        and f.plane_bytes <= _MAX_PLANE
        and _AT_ONCE * g.in_c <= _MAX_OFFSET
        and channels(node, graph) is not None
    )


def _view(node: Node, graph: Graph) -> Mapping[str, Any]:
    g, r = conv_geometry(node), rescaling(node, graph)
    f = _Flat(g)
    turn = f.place(f.turn)
    return {
        **vars(g),
        "stride": f.stride,
        "plane_bytes": f.plane_bytes,
        "whole": f.whole,
        "turn_bytes": turn,
        "turn_loads": [f.loads(i) for i in range(0, f.turn, _AT_ONCE)],
        # Of outputs before the last turn's end, too: negative places.
        "rest_loads": [
            [(at - turn, taps) for at, taps in f.loads(f.turn + first)] for first in f.rest
        ],
        "rest": f.rest,
        "turn": f.turn,
        "taken_h": min(g.in_h, g.out_h + 2 - g.pad_top),
        "record_bytes": record_bytes(r),
        "starts": [f.starts - 1 - s for s in range(f.starts)],
        **clamp_facts(node),
        **r.facts,
    }


def _scratch(node: Node, graph: Graph) -> int:
    del graph
    return _AT_ONCE * _Flat(conv_geometry(node)).plane_bytes


def _constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    """Per channel a record (`depthwise_planes`), its taps row by row."""
    f = _Flat(conv_geometry(node))
    assert f.starts - 1 + _VECTOR <= TAPS_BYTES
    w = graph.constant(node.inputs[1])[..., 0]
    return {"stream": records(w, f.starts - 1, f.stride, rescaling(node, graph))}


def _instructions(node: Node, graph: Graph) -> float:
    del graph
    g = conv_geometry(node)
    f = _Flat(g)
    channel = sum(19 + len(f.loads(first)) for first in f.blocks) + 4 * f.whole + 28
    put = 3.5 * g.in_h * g.in_w + 6 * g.in_h + 40
    groups = -(-g.in_c // _AT_ONCE)
    return g.in_c * channel + groups * put + f.plane_bytes + 60


KERNELS = (
    Kernel(
        name="depthwise_flat_mve",
        op="conv2d",
        template="targets/arm-mve/kernels/depthwise_flat.c.j2",
        features=FEATURES,
        applies=_applies,
        view=_view,
        constants=_constants,
        scratch_bytes=_scratch,
        lead_bytes=lambda node, index: IN_PLACE_ONLY if index == 0 else None,
        instructions=_instructions,
    ),
)

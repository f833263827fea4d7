"""Portable convolutions with two pixels in the halves of a register."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from ...ir.dtypes import Array
from ...ir.graph import Graph, Node
from ..geometry import conv_geometry
from ..kernel import Constant, Kernel
from ..packing import pad_axis
from . import _halves, _tile
from .conv2d_fast import gemm_applies, gemm_lead, gemm_view

_RUN = 2  # two products of int8 are always in int16, but for two weights of -128


def _filters(node: Node, graph: Graph) -> Array:
    """[O, K] as int64."""
    w = graph.constant(node.inputs[1]).astype(np.int64)
    return w.reshape(len(w), -1)


def applies(node: Node, graph: Graph) -> bool:
    if node.attrs.groups != 1 or not gemm_applies(node, graph) or conv_geometry(node).pixels < 2:
        return False
    runs = pad_axis(_filters(node, graph), 1, _RUN)
    return bool(_halves.fits(runs.reshape(len(runs), -1, _RUN)).all())


def _view(
    node: Node, graph: Graph, *, channels: int, turns: int, raised: bool
) -> Mapping[str, Any]:
    """channels: at a time. turns: runs of a turn of the loop. raised: weights are stored 128
    larger, as unsigned bytes, which Armv6-M loads at constant offsets.
    """
    return {
        **gemm_view(node, graph),
        **_halves.facts(_RUN),
        "turns": turns,
        "channels": channels,
        "raised": raised,
    }


def _constants(node: Node, graph: Graph, *, channels: int, raised: bool) -> Mapping[str, Constant]:
    """w: `channels` filters at a time, interleaved. outside: a pixel beyond the border."""
    w = _tile.interleaved(_filters(node, graph) + 128 * raised, channels).array
    found = {"w": Constant(w.astype(np.uint8 if raised else np.int8))}
    found |= _tile.channel_constants(node, graph)
    g = conv_geometry(node)
    if not g.is_pointwise:
        found["outside"] = Constant(np.full(g.in_c, node.x.zero_point, np.int8))
    return found


def _scratch(node: Node, graph: Graph) -> int:
    return 4 * _filters(node, graph).shape[1]


def _instructions(node: Node, graph: Graph) -> float:
    g, depth = conv_geometry(node), _filters(node, graph).shape[1]
    gather = (2.5 if g.is_pointwise else 3.5) * depth * g.pixels
    return 2.6 * node.op.macs(node) + 25.0 * node.y.elements + gather


def _kernel(channels: int, *, turns: int, raised: bool) -> Kernel:
    stored = {"channels": channels, "raised": raised}
    return Kernel(
        name=f"conv2d_halves_{channels}_s8",
        op="conv2d",
        template="ops/conv2d_halves.c.j2",
        applies=applies,
        view=partial(_view, turns=turns, **stored),
        constants=partial(_constants, **stored),
        scratch_bytes=_scratch,
        lead_bytes=gemm_lead,
        instructions=_instructions,
    )


# Of Armv6-M's registers eight multiply, which is enough for one run at a time, and the others hold
# the totals of three channels; where 31 are alike they hold those of eight.
KERNELS = (_kernel(3, turns=1, raised=True), _kernel(8, turns=2, raised=False))

"""Portable dense: blocks of outputs at a time, or one dot product after the other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...ir.dtypes import DType
from ...ir.graph import Graph, Node
from ..geometry import clamp_facts
from ..kernel import Constant, Kernel
from . import _tile
from .conv2d import constants


def view(node: Node, graph: Graph) -> Mapping[str, Any]:
    """rows: the product of x's leading axes."""
    del graph
    return {
        "rows": math.prod(node.x.shape[:-1]),
        "depth": node.x.shape[-1],
        "outputs": node.y.shape[-1],
        **clamp_facts(node),
    }


def _has_one_scale(node: Node, graph: Graph) -> bool:
    return all(len(np.unique(graph.constant(v))) == 1 for v in node.inputs[3:5])


def _channelwise_view(node: Node, graph: Graph) -> Mapping[str, Any]:
    return {**view(node, graph), "one_scale": _has_one_scale(node, graph)}


def _channelwise_constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    """A scale that all channels have is stored once."""
    found = dict(constants(node, graph))
    if _has_one_scale(node, graph):
        found |= {n: Constant(found[n].array[:1]) for n in ("multiplier", "shift")}
    return found


def blocked_view(node: Node, graph: Graph) -> Mapping[str, Any]:
    return {**view(node, graph), **_tile.facts(node, graph)}


def blocked_constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    width = 8 if math.prod(node.x.shape[:-1]) == 1 else 4
    w = _tile.interleaved(graph.constant(node.inputs[1]), width)
    return {"w": w} | _tile.channel_constants(node, graph)


def lead_bytes(node: Node, index: int) -> int | None:
    """A row, or a pair of rows, of outputs is written while its inputs are read."""
    if index != 0:
        return None
    rows, depth, outputs = math.prod(node.x.shape[:-1]), node.x.shape[-1], node.y.shape[-1]
    ahead = max(min(row + 2, rows) * outputs - row * depth for row in range(0, rows, 2))
    return ahead * node.x.dtype.bytes


def _blocked(suffix: str, dtype: DType) -> Kernel:
    return Kernel(
        name=f"dense_blocked_{suffix}",
        op="dense",
        template="ops/dense_blocked.c.j2",
        dtype=dtype,
        applies=_tile.applies,
        view=blocked_view,
        constants=blocked_constants,
        lead_bytes=lead_bytes,
        instructions=lambda node, graph: 2.6 * node.op.macs(node) + 20.0 * node.y.elements,
    )


KERNELS = (
    Kernel(
        name="dense_s8",
        op="dense",
        template="ops/dense.c.j2",
        view=_channelwise_view,
        constants=_channelwise_constants,
        lead_bytes=lead_bytes,
        instructions=lambda node, graph: 6.0 * node.op.macs(node) + 45.0 * node.y.elements,
    ),
    _blocked("s8", DType.INT8),
    _blocked("f32", DType.FLOAT32),
    Kernel(
        name="dense_f32",
        op="dense",
        template="ops/dense.f32.c.j2",
        dtype=DType.FLOAT32,
        view=view,
        constants=constants,
        lead_bytes=lead_bytes,
        instructions=lambda node, graph: 6.0 * node.op.macs(node),
    ),
)

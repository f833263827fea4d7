"""Portable convolutions that learn: as matrix product over natural rows, and depthwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...ir.graph import Graph, Node, Value
from ..geometry import conv_geometry
from ..kernel import Constant, Kernel
from ..learning import rescale_rows
from . import _filters, conv2d_fast
from .conv2d import view


def rescale(node: Node, graph: Graph) -> tuple[Constant, dict[str, Any]]:
    """The rescaling of each channel, and what `ops/_tile.j2` must know of it.

    {m, C, s} where that is exact, else {multiplier, shift}.
    """
    rows = rescale_rows(node, graph)
    exact = rows is not None
    if rows is None:
        rows = np.stack([graph.constant(v) for v in node.inputs[4:6]], 1)
    facts = {
        "is_float": False,
        "element": "int8_t",
        "sum_type": "int32_t",
        "exact": exact,
        "scale_up": 0,
        "fields": rows.shape[1],
        "x_zero_point": node.x.zero_point,
        "y_zero_point": node.y.zero_point,
        "q_min": node.attrs.q_clamp[0],
        "q_max": node.attrs.q_clamp[1],
    }
    return Constant(np.ravel(rows)), facts


def rows_view(node: Node, graph: Graph) -> Mapping[str, Any]:
    """depth: the columns of a window, those of `frozen` first."""
    g = conv_geometry(node)
    found = _filters.parts(node, 1, g.in_c)
    return {
        **view(node, graph),
        **rescale(node, graph)[1],
        "in_per_group": g.in_c // node.attrs.groups,
        "groups": node.attrs.groups,
        "pixels": g.pixels,
        "pointwise": g.is_pointwise and node.attrs.groups == 1,
        "parts": found,
        "depth": sum(p["row"] for p in found),
    }


def rows_constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    bias = node.inputs[3]
    learns = bias in graph.storage
    return {
        **_filters.constants(node, 1, graph),
        **({} if learns else {"bias": Constant(graph.constant(bias))}),
        "rescale": rescale(node, graph)[0],
    }


def rows_state(node: Node, graph: Graph) -> Mapping[str, Value]:
    bias = node.inputs[3]
    return {**_filters.state(node, 1, graph), **({"bias": bias} if bias in graph.storage else {})}


def depthwise_view(node: Node, graph: Graph) -> Mapping[str, Any]:
    return {
        **view(node, graph),
        **conv2d_fast.depthwise_lines(node),
        **rescale(node, graph)[1],
        "out_per_group": 1,
    }


def depthwise_constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    return _one_filter(rows_constants(node, graph))


def depthwise_state(node: Node, graph: Graph) -> Mapping[str, Value]:
    return _one_filter(rows_state(node, graph))


def _one_filter(named: Mapping[str, Any]) -> dict[str, Any]:
    return {"w" if name in _filters.NAMES else name: item for name, item in named.items()}


def _applies(node: Node, graph: Graph) -> bool:
    del graph
    split = node.inputs[1].type.elements and node.inputs[2].type.elements
    return node.x.shape[0] == 1 and not (split and node.attrs.groups > 1)


def _depthwise_applies(node: Node, graph: Graph) -> bool:
    _, _, _, channels = node.x.shape
    return _applies(node, graph) and node.attrs.groups == channels == node.y.shape[3]


def _scratch(node: Node, graph: Graph) -> int:
    del graph
    depth = sum(v.type.elements // v.type.shape[0] for v in node.inputs[1:3])
    return depth * min(2, conv_geometry(node).pixels)


def _instructions(node: Node, graph: Graph) -> float:
    """Gathering takes about three instructions a column, and more where groups are narrow."""
    del graph
    depth = sum(v.type.elements // v.type.shape[0] for v in node.inputs[1:3])
    pixels = node.y.elements // node.y.shape[3]
    gather = pixels * node.attrs.groups * (3.0 * depth + 20.0)
    return 2.6 * node.op.macs(node) + 20.0 * node.y.elements + gather


def _depthwise_instructions(node: Node, graph: Graph) -> float:
    del graph
    return 2.8 * node.op.macs(node) + 22.0 * node.y.elements


KERNELS = (
    Kernel(
        name="conv2d_trainable",
        op="conv2d_trainable",
        template="ops/conv2d_trainable.c.j2",
        applies=_applies,
        view=rows_view,
        constants=rows_constants,
        state=rows_state,
        scratch_bytes=_scratch,
        lead_bytes=conv2d_fast.gemm_lead,
        instructions=_instructions,
    ),
    Kernel(
        name="conv2d_trainable_depthwise",
        op="conv2d_trainable",
        template="ops/conv2d_depthwise.c.j2",
        applies=_depthwise_applies,
        view=depthwise_view,
        constants=depthwise_constants,
        state=depthwise_state,
        scratch_bytes=conv2d_fast.depthwise_scratch,
        lead_bytes=conv2d_fast.depthwise_lead,
        instructions=_depthwise_instructions,
    ),
)

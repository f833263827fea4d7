"""Portable kernels of float32 gradients: every sum in the order of `ops/_ordered_sums.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...ir.dtypes import DType
from ...ir.graph import Graph, Node
from ..kernel import Kernel
from . import input_gradient, quantize_gradient, weight_update

_FLOAT = 4  # bytes


def _pointwise_lead(node: Node, index: int) -> int | None:
    """Blocks of four pixels are written while their own g is read."""
    if index != 0:
        return None
    _, height, width, in_c = node.y.shape
    pixels, out_c = height * width, node.x.shape[3]
    ends = [(p, min(p + 4, pixels)) for p in range(0, pixels, 4)]
    return max(_FLOAT * (in_c * end - out_c * p) for p, end in ends)


def _depthwise_view(node: Node, graph: Graph) -> Mapping[str, Any]:
    """left, line: elements of a row of one channel, of its border at the left and in all."""
    facts = input_gradient.depthwise_view(node, graph)
    channels = facts["in_c"]
    return {
        **facts,
        "left": facts["left_elements"] // channels,
        "line": facts["line_elements"] // channels,
        "filter_type": facts["parts"][0]["type"],
    }


def _depthwise_scratch(node: Node, graph: Graph) -> int:
    facts = _depthwise_view(node, graph)
    return _FLOAT * (facts["kernel_h"] * facts["kernel_w"] + facts["out_h"] * facts["line"])


def _update_view(node: Node, graph: Graph) -> Mapping[str, Any]:
    """tiles: four output channels at a time."""
    facts = weight_update.rows_view(node, graph)
    groups = facts["groups"]
    per_group = facts["out_c"] // groups
    tiles = facts["rule"] != "stochastic" and (groups == 1 or per_group % 4 == 0)
    return {**facts, "tiles": tiles}


def _depthwise_update_view(node: Node, graph: Graph) -> Mapping[str, Any]:
    rows = weight_update.rows_view(node, graph)["tap_rows"]
    return {**weight_update.depthwise_view(node, graph), "tap_rows": rows}


def _depthwise_update_scratch(node: Node, graph: Graph) -> int:
    facts = weight_update.depthwise_view(node, graph)
    return _FLOAT * (facts["out_h"] * facts["out_w"] + facts["in_h"] * facts["plane_w"])


def _update_applies(node: Node, graph: Graph) -> bool:
    del graph
    takes_float = not weight_update.takes_int8(node)
    return takes_float and node.x.shape[0] == 1 and not node.attrs.update_channels


def _depthwise_update_applies(node: Node, graph: Graph) -> bool:
    del graph
    return not weight_update.takes_int8(node) and weight_update.is_depthwise(node)


KERNELS = (
    Kernel(
        name="scale_gradient",
        op="scale_gradient",
        template="ops/scale_gradient.c.j2",
        dtype=DType.FLOAT32,
        view=quantize_gradient.quantize_view,
        constants=quantize_gradient.quantize_constants,
        lead_bytes=quantize_gradient.first_in_place,
        instructions=lambda node, graph: 12.0 * node.x.elements,
    ),
    Kernel(
        name="conv2d_input_gradient_f32",
        op="conv2d_input_gradient",
        template="ops/conv2d_input_gradient.c.j2",
        dtype=DType.FLOAT32,
        applies=input_gradient.applies,
        view=input_gradient.view,
        constants=input_gradient.constants,
        state=input_gradient.state,
        scratch_bytes=input_gradient.general_scratch,
        lead_bytes=input_gradient.lead_bytes,
        instructions=lambda node, graph: 6.0 * node.op.macs(node) + 30.0 * node.y.elements,
    ),
    Kernel(
        name="pointwise_input_gradient_f32",
        op="conv2d_input_gradient",
        template="ops/pointwise_input_gradient.f32.c.j2",
        dtype=DType.FLOAT32,
        applies=input_gradient.pointwise_applies,
        view=input_gradient.view,
        constants=input_gradient.constants,
        state=input_gradient.state,
        lead_bytes=_pointwise_lead,
        instructions=lambda node, graph: 3.0 * node.op.macs(node) + 10.0 * node.y.elements,
    ),
    Kernel(
        name="depthwise_input_gradient_f32",
        op="conv2d_input_gradient",
        template="ops/depthwise_input_gradient.f32.c.j2",
        dtype=DType.FLOAT32,
        applies=input_gradient.depthwise_applies,
        view=_depthwise_view,
        constants=input_gradient.constants,
        state=input_gradient.state,
        scratch_bytes=_depthwise_scratch,
        instructions=lambda node, graph: 3.0 * node.op.macs(node) + 15.0 * node.y.elements,
    ),
    Kernel(
        name="weight_update_f32",
        op="weight_update",
        template="ops/weight_update.f32.c.j2",
        applies=_update_applies,
        view=_update_view,
        constants=weight_update.constants,
        state=weight_update.state,
        instructions=lambda node, graph: (
            3.3 * node.op.macs(node) + 35.0 * weight_update.moving(node)
        ),
    ),
    Kernel(
        name="depthwise_weight_update_f32",
        op="weight_update",
        template="ops/depthwise_weight_update.f32.c.j2",
        applies=_depthwise_update_applies,
        view=_depthwise_update_view,
        constants=weight_update.constants,
        state=weight_update.state,
        scratch_bytes=_depthwise_update_scratch,
        instructions=lambda node, graph: (
            2.8 * node.op.macs(node) + 35.0 * weight_update.moving(node)
        ),
    ),
    Kernel(
        name="bias_update_f32",
        op="bias_update",
        template="ops/bias_update.f32.c.j2",
        dtype=DType.FLOAT32,
        view=weight_update.bias_view,
        constants=weight_update.bias_constants,
        state=weight_update.bias_state,
        instructions=lambda node, graph: 2.0 * node.x.elements + 20.0 * node.x.shape[-1],
    ),
)

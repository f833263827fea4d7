"""Portable updates of weights, fused with their gradient, and of biases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...ir.dtypes import DType, Shape, TensorType
from ...ir.graph import Graph, Node, Value
from ...ops._convolution import ConvolutionAttrs, is_pointwise
from ...ops.weight_update import WeightUpdateAttrs, moving_shape
from ..kernel import Constant, Kernel

_X, _TRAINED = 2, 5
_FILTERS = {"weight_update": _TRAINED, "accumulate_weights": 4}


def filters(node: Node) -> TensorType:
    """Of what moves by the gradient: the weights, or their velocity."""
    return node.inputs[_FILTERS[node.op.name]].type


def optimizer_view(node: Node) -> Mapping[str, Any]:
    """accumulates: gradients are added to a velocity, in place of a step."""
    return {
        "accumulates": node.op.name.startswith("accumulate"),
        "batch": getattr(node.attrs, "batch", 1),
        "momentum": getattr(node.attrs, "momentum", 0.0),
        "weight_decay": getattr(node.attrs, "weight_decay", 0.0),
    }


def shapes_view(
    attrs: ConvolutionAttrs, g: TensorType, x: TensorType, weights: TensorType
) -> Mapping[str, Any]:
    """Of a layer whose weights move by the gradient g and its saved input x. saved_c: x's channels;
    channels: of one filter; row: elements of one."""
    _, out_h, out_w, out_c = g.shape
    _, in_h, in_w, saved_c = x.shape
    _, kernel_h, kernel_w, channels = weights.shape
    return {
        "out_h": out_h,
        "out_w": out_w,
        "out_c": out_c,
        "in_h": in_h,
        "in_w": in_w,
        "saved_c": saved_c,
        "channels": channels,
        "kernel_h": kernel_h,
        "kernel_w": kernel_w,
        "row": kernel_h * kernel_w * channels,
        "stride_h": attrs.strides[0],
        "stride_w": attrs.strides[1],
        "dilation_h": attrs.dilations[0],
        "dilation_w": attrs.dilations[1],
        "pad_top": attrs.pads[0],
        "pad_left": attrs.pads[1],
        "groups": attrs.groups,
    }


def view(node: Node, graph: Graph) -> Mapping[str, Any]:
    """saved_c: channels of the saved input. pairs: two output channels at a time."""
    del graph
    attrs: WeightUpdateAttrs = node.attrs
    return {
        **optimizer_view(node),
        **shapes_view(attrs, node.x, node.inputs[_X].type, filters(node)),
        "rule": getattr(attrs, "rule", ""),
        "zero_point": node.inputs[_X].type.zero_point,
    }


def rows_view(node: Node, graph: Graph) -> Mapping[str, Any]:
    """tap_rows, tap_columns: per tap the outputs that have it inside the input.

    The stochastic rule draws in storage order, so it takes one output channel after the other.
    """
    facts = view(node, graph)
    attrs: WeightUpdateAttrs = node.attrs
    kernel = (facts["kernel_h"], facts["kernel_w"])
    x, g = node.inputs[_X].type.shape, node.x.shape
    per_group = facts["out_c"] // attrs.groups
    return {
        **facts,
        "pointwise": is_pointwise(kernel, attrs) and attrs.strides == (1, 1),
        "pairs": facts["rule"] != "stochastic" and (attrs.groups == 1 or per_group % 2 == 0),
        "tap_rows": taps_inside(attrs, x, g, kernel[0], 0),
        "tap_columns": taps_inside(attrs, x, g, kernel[1], 1),
    }


def depthwise_view(node: Node, graph: Graph) -> Mapping[str, Any]:
    """plane: a channel of the input, as far as the windows reach."""
    facts = view(node, graph)
    plane_h, plane_w = _plane(node)
    moving = node.attrs.update_channels or tuple(range(facts["saved_c"]))
    return {
        **facts,
        "moving": moving,
        "whole": not node.attrs.update_channels,
        "plane_h": plane_h,
        "plane_w": plane_w,
        "copied_h": min(facts["in_h"], plane_h - facts["pad_top"]),
        "copied_w": min(facts["in_w"], plane_w - facts["pad_left"]),
    }


def constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    """The coefficient is just before the state."""
    coefficient = node.inputs[_FILTERS[node.op.name] - 1]
    return {"coefficient": Constant(np.ravel(graph.constant(coefficient)))}


def state(node: Node, graph: Graph) -> Mapping[str, Value]:
    del graph
    names = ("trained", "bias", "residual")
    return dict(zip(names, node.inputs[_TRAINED:], strict=False))


def bias_view(node: Node, graph: Graph) -> Mapping[str, Any]:
    del graph
    channels = node.x.shape[-1]
    facts = {"channels": channels, "pixels": node.x.elements // channels}
    return {**optimizer_view(node), **facts}


def bias_constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    at = 2 if node.op.name == "accumulate_bias" else 3
    return {"coefficient": Constant(np.ravel(graph.constant(node.inputs[at])))}


def bias_state(node: Node, graph: Graph) -> Mapping[str, Value]:
    del graph
    return {"bias": node.inputs[4]}


def taps_inside(
    attrs: ConvolutionAttrs, x: Shape, y: Shape, taps: int, axis: int
) -> list[tuple[int, int]]:
    """Per tap along height (0) or width (1): [first, last) outputs that have it inside the input.

    x, y: shapes of the layer's input and output.
    """
    size, out = x[axis + 1], y[axis + 1]
    stride, pad, dilation = attrs.strides[axis], attrs.pads[axis], attrs.dilations[axis]
    found: list[tuple[int, int]] = []
    for tap in range(taps):
        first = max(0, -(-(pad - tap * dilation) // stride))
        last = min(out, (size - 1 + pad - tap * dilation) // stride + 1)
        found.append((first, max(first, last)))
    return found


def _plane(node: Node) -> tuple[int, int]:
    attrs: WeightUpdateAttrs = node.attrs
    reach = [
        (node.x.shape[a + 1] - 1) * attrs.strides[a]
        + (filters(node).shape[a + 1] - 1) * attrs.dilations[a]
        + 1
        for a in (0, 1)
    ]
    return reach[0], reach[1]


def takes_int8(node: Node) -> bool:
    """Whether its gradient is int8, not float32."""
    return node.x.dtype is DType.INT8


def is_depthwise(node: Node) -> bool:
    """Whether every output channel has one input channel of its own."""
    out, channels = node.x.shape[3], filters(node).shape[3]
    return node.attrs.groups == out > 1 and channels == 1 and node.x.shape[0] == 1


def _applies(node: Node, graph: Graph) -> bool:
    del graph
    return takes_int8(node) and node.x.shape[0] == 1 and not node.attrs.update_channels


def _depthwise_applies(node: Node, graph: Graph) -> bool:
    del graph
    return takes_int8(node) and is_depthwise(node)


def _depthwise_scratch(node: Node, graph: Graph) -> int:
    del graph
    plane_h, plane_w = _plane(node)
    return node.x.shape[1] * node.x.shape[2] + plane_h * plane_w


def moving(node: Node) -> int:
    """How many weights move."""
    return int(np.prod(moving_shape(node.attrs, filters(node).shape)))


KERNELS = (
    Kernel(
        name="weight_update",
        op="weight_update",
        template="ops/weight_update.c.j2",
        applies=_applies,
        view=rows_view,
        constants=constants,
        state=state,
        instructions=lambda node, graph: 2.5 * node.op.macs(node) + 35.0 * moving(node),
    ),
    Kernel(
        name="depthwise_weight_update",
        op="weight_update",
        template="ops/depthwise_weight_update.c.j2",
        applies=_depthwise_applies,
        view=depthwise_view,
        constants=constants,
        state=state,
        scratch_bytes=_depthwise_scratch,
        instructions=lambda node, graph: 2.4 * node.op.macs(node) + 35.0 * moving(node),
    ),
    Kernel(
        name="bias_update",
        op="bias_update",
        template="ops/bias_update.c.j2",
        view=bias_view,
        constants=bias_constants,
        state=bias_state,
        instructions=lambda node, graph: 2.0 * node.x.elements + 20.0 * node.x.shape[-1],
    ),
)

"""Portable kernels of a layer on blinded integers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...ir.graph import Graph, Node, Value
from ...ops._convolution import ConvolutionAttrs
from ..kernel import Constant, Kernel


def window(w: Value, m: Value, y: Value, attrs: ConvolutionAttrs) -> dict[str, Any]:
    """What `ops/_ring.j2` reads: the window over m [N,H,W,C], filter w [O,KH,KW,I]."""
    batch, in_h, in_w, in_c = m.type.shape
    out_c, kernel_h, kernel_w, per_group = w.type.shape
    return {
        "batch": batch,
        "in_h": in_h,
        "in_w": in_w,
        "in_c": in_c,
        "out_h": y.type.shape[1],
        "out_w": y.type.shape[2],
        "out_c": out_c,
        "kernel_h": kernel_h,
        "kernel_w": kernel_w,
        "stride_h": attrs.strides[0],
        "stride_w": attrs.strides[1],
        "pad_top": attrs.pads[0],
        "pad_left": attrs.pads[1],
        "dilation_h": attrs.dilations[0],
        "dilation_w": attrs.dilations[1],
        "in_per_group": per_group,
        "out_per_group": out_c // attrs.groups,
    }


def blind_view(node: Node, graph: Graph) -> Mapping[str, Any]:
    del graph
    channels = node.x.shape[-1]
    pixels = node.x.elements // channels
    return {"channels": channels, "pixels": pixels, "x_zero_point": node.x.zero_point}


def ring_view(node: Node, graph: Graph) -> Mapping[str, Any]:
    del graph
    return window(node.inputs[0], node.inputs[1], node.outputs[0], node.attrs)


def unblind_view(node: Node, graph: Graph) -> Mapping[str, Any]:
    del graph
    facts = window(node.inputs[2], node.inputs[1], node.outputs[0], node.attrs)
    low, high = node.attrs.q_clamp
    return {**facts, "y_zero_point": node.y.zero_point, "q_min": low, "q_max": high}


def _constants(first: int, *names: str) -> Any:
    """Inputs from `first` on, under these names."""

    def pack(node: Node, graph: Graph) -> Mapping[str, Constant]:
        found = zip(names, node.inputs[first:], strict=False)
        return {n: Constant(np.ravel(graph.constant(v))) for n, v in found}

    return pack


def behind_pixel(node: Node, index: int) -> int | None:
    """unblind reads a pixel's sums, four bytes each, while it writes the pixel."""
    return node.y.shape[3] if index == 0 else None


KERNELS = (
    Kernel(
        name="blind",
        op="blind",
        template="ops/blind.c.j2",
        view=blind_view,
        constants=_constants(2, "order"),
        instructions=lambda node, graph: 9.0 * node.y.elements,
    ),
    Kernel(
        name="ring_conv2d",
        op="ring_conv2d",
        template="ops/ring_conv2d.c.j2",
        view=ring_view,
        constants=lambda node, graph: {"w": Constant(np.ravel(graph.constant(node.inputs[0])))},
        instructions=lambda node, graph: 6.0 * node.op.macs(node) + 20.0 * node.y.elements,
    ),
    Kernel(
        name="unblind",
        op="unblind",
        template="ops/unblind.c.j2",
        view=unblind_view,
        constants=_constants(2, "w", "bias", "multiplier", "shift", "order"),
        lead_bytes=behind_pixel,
        instructions=lambda node, graph: 6.0 * node.op.macs(node) + 40.0 * node.y.elements,
    ),
)

"""Portable convolution kernels: one general loop nest, one for depthwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...ir.dtypes import DType
from ...ir.graph import Graph, Node
from ..kernel import Constant, Kernel


def view(node: Node, graph: Graph) -> Mapping[str, Any]:
    """Shapes and integer constants of a lowered int8 conv2d, or of a float32 one, in NHWC."""
    del graph
    attrs = node.attrs
    batch, in_h, in_w, in_c = node.x.shape
    _, out_h, out_w, out_c = node.y.shape
    _, kernel_h, kernel_w, in_per_group = node.inputs[1].type.shape
    facts: dict[str, Any] = {
        "batch": batch,
        "in_h": in_h,
        "in_w": in_w,
        "in_c": in_c,
        "out_h": out_h,
        "out_w": out_w,
        "out_c": out_c,
        "kernel_h": kernel_h,
        "kernel_w": kernel_w,
        "in_per_group": in_per_group,
        "out_per_group": out_c // attrs.groups,
        "stride_h": attrs.strides[0],
        "stride_w": attrs.strides[1],
        "dilation_h": attrs.dilations[0],
        "dilation_w": attrs.dilations[1],
        "pad_top": attrs.pads[0],
        "pad_left": attrs.pads[1],
    }
    if node.y.dtype is DType.INT8:
        facts |= {
            "x_zero_point": node.x.zero_point,
            "y_zero_point": node.y.zero_point,
            "q_min": attrs.q_clamp[0],
            "q_max": attrs.q_clamp[1],
        }
    else:
        facts |= {"low": attrs.clamp[0], "high": attrs.clamp[1]}
    return facts


def constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    """w OHWI; bias[O]; int8 also multiplier[O] and shift[O]."""
    names = ("w", "bias", "multiplier", "shift")
    arrays = (graph.constant(v) for v in node.inputs[1:])
    return {n: Constant(np.ravel(a)) for n, a in zip(names, arrays, strict=False)}


def lead_bytes(node: Node, index: int) -> int | None:
    """How far the output must run ahead of the input: pixels are written in order.

    A pixel's channels are written while its window is still read, so pixel p may reach up to the
    lowest byte that pixel p or a later one reads.
    """
    if index != 0:
        return None
    attrs = node.attrs
    batch, in_h, in_w, in_c = node.x.shape
    _, out_h, out_w, out_c = node.y.shape
    rows = np.maximum(0, np.arange(out_h) * attrs.strides[0] - attrs.pads[0])
    columns = np.maximum(0, np.arange(out_w) * attrs.strides[1] - attrs.pads[1])
    first = (rows[:, None] * in_w + columns[None, :]).ravel() * in_c
    lowest = np.minimum.accumulate(first[::-1])[::-1]
    written = (np.arange(out_h * out_w) + 1) * out_c
    samples = np.arange(batch)
    ahead = int((written - lowest).max())
    drift = int((samples * (out_h * out_w * out_c - in_h * in_w * in_c)).max())
    return (ahead + drift) * node.x.dtype.bytes


def instructions(node: Node, graph: Graph) -> float:
    """About six instructions a tap, and the rescaling of each output."""
    del graph
    return 6.0 * node.op.macs(node) + 30.0 * node.y.elements


KERNELS = (
    Kernel(
        name="conv2d_s8",
        op="conv2d",
        template="ops/conv2d.c.j2",
        view=view,
        constants=constants,
        lead_bytes=lead_bytes,
        instructions=instructions,
    ),
    Kernel(
        name="conv2d_f32",
        op="conv2d",
        template="ops/conv2d.f32.c.j2",
        dtype=DType.FLOAT32,
        view=view,
        constants=constants,
        lead_bytes=lead_bytes,
        instructions=instructions,
    ),
)

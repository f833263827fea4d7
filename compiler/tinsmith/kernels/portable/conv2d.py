"""Portable convolution kernels: one general loop nest, one for depthwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...ir.dtypes import DType
from ...ir.graph import Graph, Node
from ..geometry import clamp_facts, conv_geometry
from ..kernel import Constant, Kernel


def view(node: Node, graph: Graph) -> Mapping[str, Any]:
    """Shapes and integer constants of a lowered int8 conv2d, or of a float32 one, in NHWC."""
    del graph
    return {
        **vars(conv_geometry(node)),
        "batch": node.x.shape[0],
        "in_per_group": node.inputs[1].type.shape[3],
        "out_per_group": node.y.shape[3] // node.attrs.groups,
        **clamp_facts(node),
    }


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
    g = conv_geometry(node)
    rows = np.maximum(0, np.arange(g.out_h) * g.stride_h - g.pad_top)
    columns = np.maximum(0, np.arange(g.out_w) * g.stride_w - g.pad_left)
    first = (rows[:, None] * g.in_w + columns[None, :]).ravel() * g.in_c
    lowest = np.minimum.accumulate(first[::-1])[::-1]
    written = (np.arange(g.pixels) + 1) * g.out_c
    samples = np.arange(node.x.shape[0])
    ahead = int((written - lowest).max())
    drift = int((samples * (g.out_h * g.out_row_bytes - g.in_h * g.row_bytes)).max())
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

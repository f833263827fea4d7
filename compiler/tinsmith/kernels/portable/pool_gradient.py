"""Portable kernels of gradients through windows and tables, and the channels of a saved input."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from ...ir.dtypes import DType
from ...ir.graph import Graph, Node
from ...ops.pool_gradient import PoolGradientAttrs
from ..kernel import Constant, Kernel
from .quantize_gradient import first_in_place


def pool_view(node: Node, graph: Graph) -> Mapping[str, Any]:
    del graph
    attrs: PoolGradientAttrs = node.attrs
    batch, in_h, in_w, in_c = attrs.shape
    _, out_h, out_w, _ = node.x.shape
    return {
        "batch": batch,
        "in_h": in_h,
        "in_w": in_w,
        "in_c": in_c,
        "out_h": out_h,
        "out_w": out_w,
        "kernel_h": attrs.kernel[0],
        "kernel_w": attrs.kernel[1],
        "stride_h": attrs.strides[0],
        "stride_w": attrs.strides[1],
        "dilation_h": attrs.dilations[0],
        "dilation_w": attrs.dilations[1],
        "pad_top": attrs.pads[0],
        "pad_left": attrs.pads[1],
        "real": node.inputs[1].type.dtype is DType.FLOAT32,
    }


def average_constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    return {"weight": Constant(np.ravel(graph.constant(node.inputs[1])))}


def lookup_view(node: Node, graph: Graph) -> Mapping[str, Any]:
    del graph
    return {"elements": node.x.elements}


def lookup_constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    """The slopes, rotated: entry (uint8_t)q holds that of q."""
    return {"slope": Constant(np.roll(graph.constant(node.inputs[2]), -128))}


def gather_view(node: Node, graph: Graph) -> Mapping[str, Any]:
    del graph
    in_c = node.x.shape[-1]
    return {"channels": node.attrs.channels, "in_c": in_c, "pixels": node.x.elements // in_c}


def _pool_instructions(node: Node, graph: Graph) -> float:
    del graph
    kernel_h, kernel_w = node.attrs.kernel
    return 8.0 * node.x.elements * kernel_h * kernel_w + 3.0 * node.y.elements


def ascending(node: Node, graph: Graph) -> bool:
    """Whether a gather may run forward in place."""
    del graph
    channels = node.attrs.channels
    return len(channels) > 0 and all(a < b for a, b in pairwise(channels))


KERNELS = (
    Kernel(
        name="average_pool_gradient",
        op="average_pool_gradient",
        template="ops/average_pool_gradient.c.j2",
        dtype=DType.FLOAT32,
        view=pool_view,
        constants=average_constants,
        instructions=_pool_instructions,
    ),
    Kernel(
        name="max_pool_gradient",
        op="max_pool_gradient",
        template="ops/max_pool_gradient.c.j2",
        dtype=DType.FLOAT32,
        view=pool_view,
        instructions=_pool_instructions,
    ),
    Kernel(
        name="lookup_gradient",
        op="lookup_gradient",
        template="ops/lookup_gradient.c.j2",
        dtype=DType.FLOAT32,
        view=lookup_view,
        constants=lookup_constants,
        lead_bytes=first_in_place,
        instructions=lambda node, graph: 9.0 * node.x.elements,
    ),
    *(
        Kernel(
            name=name,
            op="gather_channels",
            template="ops/gather_channels.c.j2",
            dtype=dtype,
            applies=ascending,
            view=gather_view,
            lead_bytes=first_in_place,
            instructions=lambda node, graph: 7.0 * node.y.elements,
        )
        for name, dtype in (
            ("gather_channels", DType.INT8),
            ("gather_channels_f32", DType.FLOAT32),
        )
    ),
)

"""Portable kernels of gradients as int8, of clip masks and of what they mask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...ir.dtypes import DType
from ...ir.graph import Graph, Node
from ...ops.quantize_gradient import ClipMaskAttrs
from ..kernel import Constant, Kernel


def quantize_view(node: Node, graph: Graph) -> Mapping[str, Any]:
    del graph
    channels = node.x.shape[-1]
    return {
        "channels": channels,
        "pixels": node.x.elements // channels,
        "masked": len(node.inputs) > 2,
    }


def mask_view(node: Node, graph: Graph) -> Mapping[str, Any]:
    """first, last: the values inside the bounds."""
    del graph
    attrs: ClipMaskAttrs = node.attrs
    first, last = max(-128, attrs.low + 1), min(127, attrs.high - 1)
    return {"elements": node.x.elements, "first": first, "last": last}


def masked_view(node: Node, graph: Graph) -> Mapping[str, Any]:
    del graph
    return {"elements": node.x.elements}


def quantize_constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    return {"factor": Constant(np.ravel(graph.constant(node.inputs[1])))}


def first_in_place(node: Node, index: int) -> int | None:
    """Forward over the first input: an element's output never lies behind the element."""
    del node
    return 0 if index == 0 else None


KERNELS = (
    Kernel(
        name="quantize_gradient",
        op="quantize_gradient",
        template="ops/quantize_gradient.c.j2",
        view=quantize_view,
        constants=quantize_constants,
        lead_bytes=first_in_place,
        instructions=lambda node, graph: 26.0 * node.x.elements,
    ),
    Kernel(
        name="clip_mask",
        op="clip_mask",
        template="ops/clip_mask.c.j2",
        view=mask_view,
        lead_bytes=first_in_place,
        instructions=lambda node, graph: 7.0 * node.x.elements,
    ),
    Kernel(
        name="mask_gradient",
        op="mask_gradient",
        template="ops/mask_gradient.c.j2",
        dtype=DType.FLOAT32,
        view=masked_view,
        lead_bytes=first_in_place,
        instructions=lambda node, graph: 9.0 * node.x.elements,
    ),
)

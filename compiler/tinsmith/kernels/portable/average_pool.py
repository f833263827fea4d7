"""Portable average pooling: a sum, and the multiplier of its divisor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...ir.dtypes import Array, DType
from ...ir.graph import Graph, Node
from ...ops.average_pool import AveragePoolAttrs, window_divisors
from ..kernel import Constant, Kernel
from ._pool import instructions, lead_bytes, pool_view


def view(node: Node, graph: Graph) -> Mapping[str, Any]:
    """by_divisor: windows differ in what their sum is divided by."""
    del graph
    attrs: AveragePoolAttrs = node.attrs
    kinds = _kinds(node)
    facts = pool_view(node)
    clips = facts["clip_h"] or facts["clip_w"]
    by_divisor = len(kinds) > 1
    return facts | {
        "by_divisor": by_divisor,
        "divisor": int(kinds[0]),
        "count_include_pad": attrs.count_include_pad,
        "counted_h": node.x.shape[1] + attrs.pads[2],
        "counted_w": node.x.shape[2] + attrs.pads[3],
        "counts": clips
        and ((by_divisor and not attrs.count_include_pad) or facts.get("x_zero_point", 0) != 0),
    }


def constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    """multiplier[K], shift[K]; with several divisors also kinds[kernel + 1]: divisor → index."""
    kinds = _kinds(node)
    found = {
        name: Constant(graph.constant(v))
        for name, v in zip(("multiplier", "shift"), node.inputs[1:], strict=True)
    }
    if len(kinds) > 1:
        divisors = np.maximum(np.arange(np.prod(node.attrs.kernel) + 1), 1)
        index = np.minimum(np.searchsorted(kinds, divisors), len(kinds) - 1)
        found["kinds"] = Constant(index.astype(np.uint8 if len(kinds) <= 256 else np.int16))
    return found


def _kinds(node: Node) -> Array:
    return np.unique(window_divisors(node.x, node.attrs))


KERNELS = (
    Kernel(
        name="average_pool_s8",
        op="average_pool",
        template="ops/average_pool.c.j2",
        view=view,
        constants=constants,
        lead_bytes=lead_bytes,
        instructions=instructions,
    ),
    Kernel(
        name="average_pool_f32",
        op="average_pool",
        template="ops/average_pool.f32.c.j2",
        dtype=DType.FLOAT32,
        view=view,
        lead_bytes=lead_bytes,
        instructions=instructions,
    ),
)

"""Portable lookup (int8), and every elementwise function in float32."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...ir.dtypes import DType
from ...ir.graph import Graph, Node
from ...ops.unary import OPS
from ..kernel import Constant, Kernel
from ._elementwise import in_place


def float_view(node: Node, graph: Graph) -> Mapping[str, Any]:
    """function: the operator's name; attrs: its attributes."""
    del graph
    return {
        "elements": node.y.elements,
        "function": node.op.name,
        "attrs": node.attrs,
        "root_half": math.sqrt(0.5),
        "root_2_over_pi": math.sqrt(2 / math.pi),
    }


def lookup_view(node: Node, graph: Graph) -> Mapping[str, Any]:
    del graph
    return {"elements": node.y.elements}


def lookup_constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    """The table, rotated: entry (uint8_t)q holds the value of q."""
    return {"table": Constant(np.roll(graph.constant(node.inputs[1]), -128))}


KERNELS = (
    Kernel(
        name="lookup_s8",
        op="lookup",
        template="ops/lookup.c.j2",
        view=lookup_view,
        constants=lookup_constants,
        lead_bytes=in_place,
        instructions=lambda node, graph: 5.0 * node.y.elements,
    ),
    *(
        Kernel(
            name=f"{op.name}_f32",
            op=op.name,
            template="ops/unary.f32.c.j2",
            dtype=DType.FLOAT32,
            view=float_view,
            lead_bytes=in_place,
            instructions=lambda node, graph: 20.0 * node.y.elements,
        )
        for op in OPS
    ),
)

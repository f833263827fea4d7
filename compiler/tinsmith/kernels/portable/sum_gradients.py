"""Portable kernels of float32 gradients that meet, spread, shrink or are scaled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...ir.dtypes import DType
from ...ir.graph import Graph, Node
from ..kernel import Constant, Kernel
from ._elementwise import in_place, nest
from .quantize_gradient import first_in_place


def sum_view(node: Node, graph: Graph) -> Mapping[str, Any]:
    """factor: as float32, so that 1 is recognised."""
    del graph
    factors = {n: float(np.float32(getattr(node.attrs, n))) for n in ("factor1", "factor2")}
    return {"elements": node.x.elements, **factors}


def spread_view(node: Node, graph: Graph) -> Mapping[str, Any]:
    del graph
    shape, axes = node.attrs.shape, node.attrs.axes
    return nest(shape, {"x": tuple(1 if i in axes else d for i, d in enumerate(shape))})


def reduce_view(node: Node, graph: Graph) -> Mapping[str, Any]:
    """The nest walks dy; its operand is the sum that takes the element."""
    del graph
    facts = nest(node.x.shape, {"y": node.attrs.shape})
    target = facts["target"].replace("y[", "x[", 1)
    return {**facts, "target": target, "elements": node.y.elements}


def mul_view(node: Node, graph: Graph) -> Mapping[str, Any]:
    other = node.inputs[1]
    name = "operand" if graph.is_constant(other) else "x1"
    facts = nest(node.x.shape, {"x": node.x.shape, name: other.type.shape})
    real = other.type.dtype is DType.FLOAT32
    return {**facts, "zero_point": 0 if real else other.type.zero_point}


def mul_constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    other = node.inputs[1]
    return (
        {"operand": Constant(np.ravel(graph.constant(other)))} if graph.is_constant(other) else {}
    )


KERNELS = (
    Kernel(
        name="sum_gradients",
        op="sum_gradients",
        template="ops/sum_gradients.c.j2",
        dtype=DType.FLOAT32,
        view=sum_view,
        lead_bytes=in_place,
        instructions=lambda node, graph: 8.0 * node.x.elements,
    ),
    Kernel(
        name="spread_gradient",
        op="spread_gradient",
        template="ops/spread_gradient.c.j2",
        dtype=DType.FLOAT32,
        view=spread_view,
        instructions=lambda node, graph: 5.0 * node.y.elements,
    ),
    Kernel(
        name="reduce_gradient",
        op="reduce_gradient",
        template="ops/reduce_gradient.c.j2",
        dtype=DType.FLOAT32,
        view=reduce_view,
        instructions=lambda node, graph: 7.0 * node.x.elements,
    ),
    Kernel(
        name="mul_gradient",
        op="mul_gradient",
        template="ops/mul_gradient.c.j2",
        dtype=DType.FLOAT32,
        view=mul_view,
        constants=mul_constants,
        lead_bytes=first_in_place,
        instructions=lambda node, graph: 10.0 * node.x.elements,
    ),
)

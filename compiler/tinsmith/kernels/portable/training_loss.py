"""Portable kernels of the losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...ir.graph import Graph, Node
from ..kernel import Constant, Kernel


def cross_entropy_view(node: Node, graph: Graph) -> Mapping[str, Any]:
    del graph
    return {"classes": node.x.elements, "scale": node.attrs.scale}


def cross_entropy_constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    return {"exponentials": Constant(np.ravel(graph.constant(node.inputs[2])))}


def mse_view(node: Node, graph: Graph) -> Mapping[str, Any]:
    """square: of one step, over the number of elements. slope: of the loss per step."""
    del graph
    square = node.attrs.scale**2 / node.x.elements
    return {"elements": node.x.elements, "square": square, "slope": 2 * square}


KERNELS = (
    Kernel(
        name="softmax_cross_entropy",
        op="softmax_cross_entropy",
        template="ops/softmax_cross_entropy.c.j2",
        view=cross_entropy_view,
        constants=cross_entropy_constants,
        instructions=lambda node, graph: 50.0 * node.x.elements,
    ),
    Kernel(
        name="mse_loss",
        op="mse_loss",
        template="ops/mse_loss.c.j2",
        view=mse_view,
        instructions=lambda node, graph: 12.0 * node.x.elements,
    ),
)

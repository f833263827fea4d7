"""Portable batch_norm, float32: x · factor + offset, both computed at compile time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...ir.dtypes import DType
from ...ir.graph import Graph, Node
from ...ops.batch_norm import affine, channel_axis
from ..kernel import Constant, Kernel
from ._elementwise import in_place, nest


def view(node: Node, graph: Graph) -> Mapping[str, Any]:
    del graph
    channels = [1] * node.x.rank
    channels[channel_axis(node.attrs)] = node.x.shape[channel_axis(node.attrs)]
    shapes = {"x": node.x.shape, "factor": tuple(channels), "offset": tuple(channels)}
    return nest(node.y.shape, shapes)


def constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    factor, offset = affine(node.attrs, *(graph.constant(v) for v in node.inputs[1:]))
    return {
        "factor": Constant(factor.astype(np.float32)),
        "offset": Constant(offset.astype(np.float32)),
    }


KERNELS = (
    Kernel(
        name="batch_norm_f32",
        op="batch_norm",
        template="ops/batch_norm.f32.c.j2",
        dtype=DType.FLOAT32,
        view=view,
        constants=constants,
        lead_bytes=in_place,
        instructions=lambda node, graph: 9.0 * node.y.elements,
    ),
)

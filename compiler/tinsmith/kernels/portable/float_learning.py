"""Portable kernels of float32 networks that learn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...ir.dtypes import DType
from ...ir.graph import Graph, Node, Value
from ...ops._convolution import is_pointwise
from ...ops.sgd_update import SgdWeightsAttrs
from ..geometry import clamp_facts, conv_geometry
from ..kernel import Constant, Kernel
from . import _filters, _pool, average_pool, conv2d, reduce_mean
from .weight_update import shapes_view, taps_inside

_FILTERS = 1  # position of `frozen` among a layer's inputs


def forward_view(node: Node, graph: Graph) -> Mapping[str, Any]:
    del graph
    groups = node.attrs.groups
    facts = vars(conv_geometry(node))
    return {
        **facts,
        **clamp_facts(node),
        "groups": groups,
        "out_per_group": facts["out_c"] // groups,
        "parts": _filters.parts(node, _FILTERS, facts["in_c"] // groups),
    }


def forward_constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    bias = node.inputs[3]
    own = {} if bias in graph.storage else {"bias": Constant(graph.constant(bias))}
    return {**_filters.constants(node, _FILTERS, graph), **own}


def forward_state(node: Node, graph: Graph) -> Mapping[str, Value]:
    bias = node.inputs[3]
    own = {"bias": bias} if bias in graph.storage else {}
    return {**_filters.state(node, _FILTERS, graph), **own}


def weights_view(node: Node, graph: Graph) -> Mapping[str, Any]:
    """moving: of a depthwise layer that learns in part. tiles: four output channels at a time."""
    del graph
    attrs: SgdWeightsAttrs = node.attrs
    x, trained = node.inputs[1].type, node.inputs[3].type
    _, kernel_h, kernel_w, _ = trained.shape
    return {
        **shapes_view(attrs, node.x, x, trained),
        "factor": attrs.factor,
        "moving": attrs.update_channels,
        "pointwise": is_pointwise((kernel_h, kernel_w), attrs) and attrs.strides == (1, 1),
        "tiles": attrs.groups == 1 or node.x.shape[3] // attrs.groups % 4 == 0,
        "tap_rows": taps_inside(attrs, x.shape, node.x.shape, kernel_h, 0),
        "tap_columns": taps_inside(attrs, x.shape, node.x.shape, kernel_w, 1),
    }


def bias_view(node: Node, graph: Graph) -> Mapping[str, Any]:
    del graph
    channels = node.x.shape[-1]
    factor = node.attrs.factor
    return {"channels": channels, "pixels": node.x.elements // channels, "factor": factor}


def mask_view(node: Node, graph: Graph) -> Mapping[str, Any]:
    del graph
    attrs = node.attrs
    return {"elements": node.x.elements, "low": attrs.low, "high": attrs.high}


def classes_view(node: Node, graph: Graph) -> Mapping[str, Any]:
    del graph
    return {"classes": node.x.elements}


def mse_view(node: Node, graph: Graph) -> Mapping[str, Any]:
    """mean: of the squares; slope: of the loss."""
    del graph
    count = node.x.elements
    return {"elements": count, "mean": float(np.float32(1 / count)), "slope": 2 / count}


def _one_sample(node: Node, graph: Graph) -> bool:
    del graph
    return node.x.shape[0] == 1


def _own_state(name: str, index: int) -> Any:
    return lambda node, graph: {name: node.inputs[index]}


KERNELS = (
    Kernel(
        name="conv2d_float",
        op="conv2d_float",
        template="ops/conv2d_float.c.j2",
        dtype=DType.FLOAT32,
        applies=_one_sample,
        view=forward_view,
        constants=forward_constants,
        state=forward_state,
        lead_bytes=conv2d.lead_bytes,
        instructions=lambda node, graph: 3.5 * node.op.macs(node) + 30.0 * node.y.elements,
    ),
    Kernel(
        name="sgd_weights",
        op="sgd_weights",
        template="ops/sgd_weights.c.j2",
        dtype=DType.FLOAT32,
        applies=_one_sample,
        view=weights_view,
        state=_own_state("trained", 3),
        instructions=lambda node, graph: 3.0 * node.op.macs(node),
    ),
    Kernel(
        name="sgd_bias",
        op="sgd_bias",
        template="ops/sgd_bias.c.j2",
        dtype=DType.FLOAT32,
        view=bias_view,
        state=_own_state("bias", 2),
        instructions=lambda node, graph: 2.0 * node.x.elements,
    ),
    Kernel(
        name="clamp_mask",
        op="clamp_mask",
        template="ops/clamp_mask.c.j2",
        dtype=DType.FLOAT32,
        view=mask_view,
        lead_bytes=lambda node, index: 0,
        instructions=lambda node, graph: 8.0 * node.x.elements,
    ),
    Kernel(
        name="float_cross_entropy",
        op="float_cross_entropy",
        template="ops/float_cross_entropy.c.j2",
        dtype=DType.FLOAT32,
        view=classes_view,
        instructions=lambda node, graph: 80.0 * node.x.elements,
    ),
    Kernel(
        name="float_mse",
        op="float_mse",
        template="ops/float_mse.c.j2",
        dtype=DType.FLOAT32,
        view=mse_view,
        instructions=lambda node, graph: 8.0 * node.x.elements,
    ),
    Kernel(
        name="ordered_reduce_mean",
        op="ordered_reduce_mean",
        template="ops/reduce_mean.f32.c.j2",
        dtype=DType.FLOAT32,
        view=reduce_mean.view,
        lead_bytes=reduce_mean.lead_bytes,
        instructions=reduce_mean.instructions,
    ),
    Kernel(
        name="ordered_average_pool",
        op="ordered_average_pool",
        template="ops/average_pool.f32.c.j2",
        dtype=DType.FLOAT32,
        view=average_pool.view,
        lead_bytes=_pool.lead_bytes,
        instructions=_pool.instructions,
    ),
)

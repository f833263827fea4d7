"""Portable updates in two parts: gradients are added to a velocity, the last of a batch steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ...ir.dtypes import DType
from ...ir.graph import Graph, Node, Value
from ...ops.velocity import ApplyWeightsAttrs
from ..kernel import Constant, Kernel
from . import float_gradients, weight_update

_ACCUMULATE = {"weight_update": "accumulate_weights", "bias_update": "accumulate_bias"}
_VELOCITY = {"accumulate_weights": 4, "accumulate_bias": 3}


def accumulates(kernel: Kernel) -> Kernel:
    """The form of an update's kernel that adds gradients to a velocity."""
    name = kernel.name.replace("update", "velocity")
    return replace(kernel, name=name, op=_ACCUMULATE[kernel.op], state=_sums)


def _sums(node: Node, graph: Graph) -> Mapping[str, Value]:
    del graph
    first = _VELOCITY[node.op.name]
    return dict(zip(("velocity", "position"), node.inputs[first:], strict=False))


def _apply_view(node: Node, graph: Graph) -> Mapping[str, Any]:
    """moving: the output channels; decay_of_batch: the pull of a real weight over a batch."""
    del graph
    attrs: ApplyWeightsAttrs = node.attrs
    out, kernel_h, kernel_w, channels = node.inputs[3].type.shape
    return {
        "rule": attrs.rule,
        "velocity": True,
        "accumulates": False,
        "whole": not attrs.update_channels,
        "moving": attrs.update_channels or tuple(range(out)),
        "row": kernel_h * kernel_w * channels,
        "batch": attrs.batch,
        "inverse_batch": float(np.float32(1 / attrs.batch)),
        "weight_decay": attrs.weight_decay,
        "decay_of_batch": float(np.float32(attrs.weight_decay * attrs.batch)),
        "zero_point": attrs.zero_point,
    }


def _apply_state(node: Node, graph: Graph) -> Mapping[str, Value]:
    del graph
    names = ["velocity", "trained", "bias"]
    names += ["residual"] * (len(node.outputs) - 3) + ["position"]
    return dict(zip(names, node.inputs[2:], strict=False))


def _apply_bias_view(node: Node, graph: Graph) -> Mapping[str, Any]:
    del graph
    batch = node.attrs.batch
    return {
        "channels": node.outputs[0].type.elements,
        "batch": batch,
        "inverse_batch": float(np.float32(1 / batch)),
    }


def _apply_bias_state(node: Node, graph: Graph) -> Mapping[str, Value]:
    del graph
    return dict(zip(("velocity", "bias", "position"), node.inputs[2:], strict=False))


def _coefficient(node: Node, graph: Graph) -> Mapping[str, Constant]:
    return {"coefficient": Constant(np.ravel(graph.constant(node.inputs[1])))}


def _each_sample(instructions: float, node: Node) -> float:
    """Of a step that only the last sample of a batch takes: the mean."""
    return 10.0 + instructions * node.outputs[0].type.elements / node.attrs.batch


KERNELS = (
    *(accumulates(k) for k in weight_update.KERNELS),
    *(
        replace(accumulates(k), dtype=DType.FLOAT32)  # nothing that they take or make is int8
        for k in float_gradients.KERNELS
        if k.op in _ACCUMULATE
    ),
    Kernel(
        name="apply_weights",
        op="apply_weights",
        template="ops/apply_weights.c.j2",
        view=_apply_view,
        constants=_coefficient,
        state=_apply_state,
        instructions=lambda node, graph: _each_sample(45.0, node),
    ),
    Kernel(
        name="apply_bias",
        op="apply_bias",
        template="ops/apply_bias.c.j2",
        dtype=DType.FLOAT32,
        view=_apply_bias_view,
        constants=_coefficient,
        state=_apply_bias_state,
        instructions=lambda node, graph: _each_sample(25.0, node),
    ),
    Kernel(
        name="count_sample",
        op="count_sample",
        template="ops/count_sample.c.j2",
        dtype=DType.FLOAT32,
        view=lambda node, graph: {"batch": node.attrs.batch},
        state=lambda node, graph: {"position": node.inputs[0]},
        instructions=lambda node, graph: 5.0,
    ),
)

"""Constants of the portable blocked kernels; in int8 the bias takes in the input's zero point."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...ir.dtypes import Array, DType
from ...ir.graph import Graph, Node
from ...quant.arithmetic import INT32_MAX
from ..geometry import clamp_facts
from ..kernel import Constant
from ..packing import epilogue


def applies(node: Node, graph: Graph) -> bool:
    """Whether no partial sum of Σ w·x + (bias − z·Σw) can leave int32, for any x; float always."""
    if node.y.dtype is DType.FLOAT32:
        return True
    reach = np.abs(_folded_bias(node, graph)) + 128 * np.abs(_filters(node, graph)).sum(1)
    return int(reach.max()) <= INT32_MAX


def facts(node: Node, graph: Graph) -> dict[str, Any]:
    """What `ops/_tile.j2` needs: types, the form of rescaling and the output's bounds."""
    if node.y.dtype is DType.FLOAT32:
        return {"is_float": True, "element": "float", "sum_type": "float"}
    exact = epilogue(node, graph)
    return {
        "is_float": False,
        "element": "int8_t",
        "sum_type": "int32_t",
        "exact": exact is not None,
        "scale_up": 0 if exact is None else exact.scale_up,
        "fields": 2 if exact is None else 3,
        **clamp_facts(node),
    }


def channel_constants(node: Node, graph: Graph) -> dict[str, Constant]:
    """bias[O]; in int8 with the zero point folded in, and rescale[O]: {m, C, s} or {multiplier,
    shift}."""
    if node.y.dtype is DType.FLOAT32:
        return {"bias": Constant(graph.constant(node.inputs[2]))}
    exact = epilogue(node, graph)
    if exact is not None:
        rows = np.stack([exact.multiplier, exact.offset, exact.shift], 1)
    else:
        rows = np.stack([graph.constant(v) for v in node.inputs[3:5]], 1)
    bias = _folded_bias(node, graph).astype(np.int32)
    return {"bias": Constant(bias), "rescale": Constant(np.ravel(rows.astype(np.int32)))}


def interleaved(filters: Array, width: int, groups: int = 1) -> Constant:
    """[O, K] filters, `width` of each group at a time, stored [K][width]."""
    parts: list[Array] = []
    for group in np.split(filters, groups):
        cuts = range(0, len(group), width)
        parts += [np.ravel(group[i : i + width].T) for i in cuts]
    return Constant(np.concatenate(parts))


def _filters(node: Node, graph: Graph) -> Array:
    w = graph.constant(node.inputs[1]).astype(np.int64)
    return w.reshape(w.shape[0], -1)


def _folded_bias(node: Node, graph: Graph) -> Array:
    bias = graph.constant(node.inputs[2]).astype(np.int64)
    return bias - node.x.zero_point * _filters(node, graph).sum(1)

"""Inputs for every contender: the same numbers, in the type and axes that each one takes."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto

from ..ir.dtypes import DType
from ..ir.graph import Graph, Value
from ..quant.arithmetic import dequantize_array
from .contender import Feed


def random_feeds(graph: Graph, model: ModelProto, seed: int) -> list[Feed]:
    """One seeded sample: uniform in int8, standard normal in float32.

    graph: as compiled; its inputs say the types, the layouts and the order of `model`.
    """
    random = np.random.default_rng(seed)
    stored = {t.name for t in model.graph.initializer}
    names = [i.name for i in model.graph.input if i.name not in stored]
    values = {v.name: i for i, v in enumerate(graph.inputs)}
    return [_feed(graph, values[name], random) for name in names]


def _feed(graph: Graph, index: int, random: np.random.Generator) -> Feed:
    value: Value = graph.inputs[index]
    layout = graph.input_layout(index)
    back = None if layout is None else tuple(int(a) for a in np.argsort(layout))
    if value.type.dtype is DType.INT8:
        q = random.integers(-128, 128, value.type.shape).astype(np.int8)
        q = q if back is None else q.transpose(back)
        return Feed(dequantize_array(q, value.type), q, value.type.quant)
    real = random.standard_normal(value.type.shape).astype(np.float32)
    return Feed(real if back is None else real.transpose(back))

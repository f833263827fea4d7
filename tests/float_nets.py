"""The networks of training_nets.py in float32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tinsmith.ir.dtypes import DType, TensorType
from tinsmith.ir.graph import Graph, Node, Origin, Value
from tinsmith.ops import get
from tinsmith.pass_manager import PassContext, run_passes
from tinsmith.passes import build_backward, select_float_updates
from tinsmith.train.scheme import Scheme

from .int8_nets import Int8Net


class FloatNet(Int8Net):
    """As Int8Net; every convolution is clamped, so that masks matter."""

    def input(self, *shape: int) -> Value:
        self.inputs.append(Value(f"x{len(self.inputs)}", TensorType(shape, DType.FLOAT32)))
        return self.inputs[-1]

    def add_all(self, op: str, inputs: Sequence[Value], attrs: Any = None) -> tuple[Value, ...]:
        record = get(op)
        attrs = record.attrs() if attrs is None else attrs
        if op == "conv2d":
            attrs = replace(attrs, clamp=(-0.75, 1.125))  # exact in float32
        name = f"{op}{len(self.nodes)}"
        types = record.infer([v.type for v in inputs], attrs)
        outputs = tuple(Value(f"{name}.{i}" if i else name, t) for i, t in enumerate(types))
        self.nodes.append(Node(record, tuple(inputs), outputs, attrs, Origin(name, op)))
        return outputs

    def weights(self, x: Value, shape: Sequence[int], fan_in: int) -> list[Value]:
        made: list[Value] = []
        for name, size, spread in (("w", shape, fan_in**-0.5), ("b", shape[:1], 0.2)):
            array = self.rng.normal(0, spread, size).astype(np.float32)
            made.append(Value(f"{name}{len(self.nodes)}", TensorType(array.shape, DType.FLOAT32)))
            self.constants[made[-1]] = array
        return made

    def build(self, *outputs: Value) -> Graph:
        return Graph(self.name, tuple(self.inputs), outputs, self.constants, tuple(self.nodes))


def float_training_graph(graph: Graph, scheme: Scheme) -> Graph:
    """Selects and builds the backward pass of a float32 graph in NHWC."""
    context = PassContext(options={"scheme": scheme})
    return run_passes(graph, (select_float_updates.PASS, build_backward.PASS), context)

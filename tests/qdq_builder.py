"""Graphs in QDQ form, written down in tests, and the passes that make them int8."""

from __future__ import annotations

import numpy as np

from tinsmith.ir.builder import GraphBuilder
from tinsmith.ir.dtypes import Quant
from tinsmith.ir.graph import Graph, Value
from tinsmith.ops import get
from tinsmith.ops.conv2d import Conv2dAttrs
from tinsmith.ops.quantize import QuantizeAttrs
from tinsmith.pass_manager import PassContext, run_passes
from tinsmith.passes import fold_qdq, lower_requantize


class Qdq(GraphBuilder):
    """A builder that speaks quantize and dequantize."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__("qdq")
        self.random = np.random.default_rng(seed)

    def q(self, x: Value, scale: float, zero_point: int, name: str | None = None) -> Value:
        return self.add(get("quantize"), [x], QuantizeAttrs((scale,), (zero_point,)), name)

    def dq(self, x: Value) -> Value:
        return self.add(get("dequantize"), [x])

    def qdq(self, x: Value, scale: float, zero_point: int, name: str | None = None) -> Value:
        return self.dq(self.q(x, scale, zero_point, name))

    def weights(self, name: str, shape: tuple[int, ...], low: float = 0.01) -> Value:
        q = self.random.integers(-127, 128, shape).astype(np.int8)
        scale = tuple(self.random.uniform(low, 2 * low, shape[0]).tolist())
        return self.dq(self.constant(name, q, Quant(scale, (0,) * shape[0], 0)))

    def bias(self, name: str, w: Value, x_scale: float, factor: float = 1.0) -> Value:
        node = next(n for n in self._nodes if w in n.outputs)
        scale = np.asarray(node.inputs[0].type.quant.scale) * x_scale * factor
        q = self.random.integers(-2000, 2000, len(scale)).astype(np.int32)
        quant = Quant(tuple(scale.tolist()), (0,) * len(scale), 0)
        return self.dq(self.constant(name, q, quant))

    def conv(self, x: Value, x_scale: float, channels: int, **attrs: object) -> Value:
        w = self.weights(f"w{self._count}", (channels, 3, 3, x.type.shape[3]))
        b = self.bias(f"b{self._count}", w, x_scale)
        return self.add(get("conv2d"), [x, w, b], Conv2dAttrs(layout="NHWC", **attrs))


def fold(graph: Graph, context: PassContext | None = None) -> Graph:
    return run_passes(graph, [fold_qdq.PASS, lower_requantize.PASS], context or PassContext())

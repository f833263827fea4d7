"""Put `quantize → dequantize` on every activation of a float graph, int8 weights, int32 biases.

The result is still a FLOAT graph, a standard QDQ model once exported; `fold_qdq` makes it int8.
A value keeps its name behind the dequantize; the operator's own output becomes `<name>.real`, the
integers in between `<name>.q`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ..errors import CompileError
from ..ir.dtypes import DType, Quant, TensorType
from ..ir.graph import Graph, Node, Origin, Value
from ..ir.opdef import Absent
from ..ir.rewrite import Rewriter
from ..ops import get
from ..ops.quantize import QuantizeAttrs
from ..pass_manager import Pass, PassContext
from ..quant.arithmetic import quantize_array
from ..quant.calibrate import Calibration
from ..quant.weights import activation_quant, quantize_bias, quantize_weights
from ._activation_quants import activation_quants
from ._int8_types import decide_quants, float_islands

NAME = "insert_qdq"


def run(graph: Graph, context: PassContext) -> Graph:
    """Without calibration the graph stays as it is: it must be quantised already."""
    if context.calibration is None:
        return graph
    calibration: Mapping[str, Calibration] = context.calibration
    inserter = _Inserter(graph, activation_quants(graph, calibration), context)
    for value in graph.inputs:
        inserter.input(value)
    for node in graph.nodes:
        inserter.node(node)
    return inserter.rewriter.finish()


PASS = Pass(NAME, run)


def gaps(graph: Graph) -> list[str]:
    """The nodes of a QDQ graph that only calibration can make int8."""
    return [str(node.origin) for node, _ in float_islands(graph, decide_quants(graph))]


class _Inserter:
    def __init__(self, graph: Graph, quants: Mapping[Value, Quant], context: PassContext) -> None:
        self.graph = graph
        self.quants = quants
        self.context = context
        self.rewriter = Rewriter(graph, NAME)
        self._constants: dict[tuple[Value, Quant], Value] = {}

    def input(self, value: Value) -> None:
        if value in self.quants and value in self.graph.consumers:
            type_ = value.type
            real = Value(self.rewriter.unique(f"{value.name}.dq"), type_)
            self._pair(value, value, real, Origin(value.name))
            self.rewriter.rename(value, real)

    def node(self, node: Node) -> None:
        if isinstance(node.op.integer, Absent):
            self.rewriter.keep(node)
            return
        inputs = self._inputs(node)
        outputs = [
            replace(v, name=self.rewriter.unique(f"{v.name}.real")) if v in self.quants else v
            for v in node.outputs
        ]
        self.rewriter.emit(node.op, inputs, node.attrs, origin=node.origin, outputs=outputs)
        for real, value in zip(outputs, node.outputs, strict=True):
            if real != value:
                self._pair(value, real, value, node.origin)

    def _pair(self, value: Value, source: Value, target: Value, origin: Origin) -> None:
        quant = self.quants[value]
        name = self.rewriter.unique(f"{value.name}.q")
        q = Value(name, value.type.with_dtype(DType.INT8, quant))
        attrs = QuantizeAttrs.of(quant)
        self.rewriter.emit(get("quantize"), [source], attrs, origin=origin, outputs=[q])
        self.rewriter.emit(get("dequantize"), [q], origin=origin, outputs=[target])

    def _inputs(self, node: Node) -> list[Value]:
        assert not isinstance(node.op.integer, Absent)
        inputs, weight = list(node.inputs), node.op.integer.weight
        for i, value in enumerate(inputs):
            constant = value.type.dtype is DType.FLOAT32 and value in self.graph.initializers
            if constant and (weight is None or i not in (weight.index, weight.bias_index)):
                inputs[i] = self._operand(value)
        if weight is None or inputs[weight.index] not in self.graph.initializers:
            return inputs
        x_quant = self._input_quant(node)
        bias_index = weight.bias_index
        bias = None if bias_index is None else self.graph.initializers.get(inputs[bias_index])
        w = inputs[weight.index]
        real = self.graph.initializers[w]
        if not np.isfinite(real).all() or (bias is not None and not np.isfinite(bias).all()):
            raise CompileError(
                "its weights contain NaN or infinity",
                node=str(node.origin),
                expected="finite weights",
            )
        q, quant = quantize_weights(real, weight.axis(node.attrs), bias, x_quant.scale[0])
        inputs[weight.index] = self._dequantized(w, q, quant, node)
        if bias is not None and bias_index is not None:
            inputs[bias_index] = self._bias(inputs[bias_index], bias, x_quant, quant, node)
        return inputs

    def _input_quant(self, node: Node) -> Quant:
        x = node.inputs[0]
        quant = self.quants.get(x)
        producer = self.graph.producer.get(x)
        if quant is None and producer is not None and producer.op.name == "dequantize":
            quant = producer.x.quant
        if quant is None:
            raise CompileError(
                f"input {x.name!r} has no scale",
                node=str(node.origin),
                expected="a quantised activation",
            )
        return quant

    def _bias(self, value: Value, bias: np.ndarray, x: Quant, w: Quant, node: Node) -> Value:
        # The product of two float32 scales, as float32: what a QDQ model can store.
        scales = (np.asarray(w.scale) * x.scale[0]).astype(np.float32).astype(np.float64)
        q, clamped = quantize_bias(bias, scales)
        if clamped:
            self.context.note(f"{node.origin}: the bias of {clamped} channel(s) was clamped")
        axis = 0 if len(scales) > 1 else None
        quant = Quant(tuple(map(float, scales)), (0,) * len(scales), axis)
        return self._dequantized(value, q, quant, node)

    def _operand(self, value: Value) -> Value:
        """A constant operand of add, mul…: int8, per tensor."""
        real = self.graph.initializers[value]
        quant = activation_quant(real.min(initial=0.0), real.max(initial=0.0))
        q = quantize_array(real, TensorType(real.shape, DType.INT8, quant))
        return self._dequantized(value, q, quant, None)

    def _dequantized(self, value: Value, q: np.ndarray, quant: Quant, node: Node | None) -> Value:
        """The dequantize of a new constant; shared by the nodes that want the same."""
        if (value, quant) not in self._constants:
            constant = self.rewriter.constant(f"{value.name}.q", q, quant)
            origin = Origin(value.name) if node is None else node.origin
            name = f"{value.name}.dq"
            (made,) = self.rewriter.emit(get("dequantize"), [constant], origin=origin, name=name)
            self._constants[value, quant] = made
        return self._constants[value, quant]

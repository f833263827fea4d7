"""The constants of folded nodes: int8 weights, int32 biases, int8 constant operands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import CompileError
from ..ir.dtypes import Array, DType, Quant, TensorType
from ..ir.graph import Graph, Node, Value
from ..ir.opdef import WeightInput
from ..ir.rewrite import Rewriter
from ..pass_manager import PassContext
from ..quant.arithmetic import dequantize_array, quantize_array
from ..quant.weights import activation_quant, quantize_bias, quantize_weights

_SAME_BIAS_SCALE = 1e-5  # s_x · s_w as float32, rounded twice
_EMPTY = np.empty(0)


@dataclass(frozen=True)
class _Constant:
    """An array as stored, with its quantisation when it is not float."""

    name: str
    array: Array
    quant: Quant | None

    def real(self) -> Array:
        if self.quant is None:
            return self.array
        type_ = TensorType(self.array.shape, DType(self.array.dtype.name), self.quant)
        return dequantize_array(self.array, type_)


class Constants:
    """Knows every constant of a graph, below its quantize and dequantize nodes."""

    def __init__(self, graph: Graph, rewriter: Rewriter, context: PassContext) -> None:
        self.rewriter = rewriter
        self.context = context
        self._known = {v: _Constant(v.name, a, v.type.quant) for v, a in graph.initializers.items()}
        self._made: dict[tuple[Value, bytes], Value] = {}

    def holds(self, value: Value) -> bool:
        return value in self._known

    def absorb(self, node: Node) -> bool:
        """Take in a quantize or dequantize of a constant; True when it was one."""
        if node.op.name not in ("quantize", "dequantize") or node.inputs[0] not in self._known:
            return False
        constant = self._known[node.inputs[0]]
        y = node.outputs[0]
        if node.op.name == "quantize":
            constant = _Constant(y.name, quantize_array(constant.array, y.type), y.type.quant)
        self._known[y] = constant
        return True

    def per_tensor(self, value: Value) -> Value:
        """An int8 operand with one scale."""
        constant = self._known[value]
        if constant.array.dtype == np.int8 and constant.quant and constant.quant.axis is None:
            return self._emit(constant.name, constant.array, constant.quant)
        real = constant.real()
        quant = activation_quant(real.min(initial=0.0), real.max(initial=0.0))
        q = quantize_array(real, TensorType(real.shape, DType.INT8, quant))
        return self._emit(constant.name, q, quant)

    def weights(self, node: Node, rule: WeightInput, x: TensorType) -> Value:
        """int8 weights with zero point 0, quantised per tensor or along the rule's axis."""
        value = node.inputs[rule.index]
        constant, axis = self._known[value], rule.axis(node.attrs)
        quant = constant.quant
        if constant.array.dtype == np.int8 and quant and quant.axis in (None, axis):
            centred = constant.array.astype(np.int64) - quant.broadcast(
                quant.zero_point, constant.array.ndim
            )
            if np.all((centred >= -128) & (centred <= 127)):
                zero = Quant(quant.scale, (0,) * len(quant.scale), quant.axis)
                return self._emit(constant.name, centred.astype(np.int8), zero)
        if constant.array.dtype.name not in ("float32", "int8"):
            raise CompileError(
                f"the weights {value.name!r} are {constant.array.dtype}",
                node=str(node.origin),
                expected="int8 or uint8 weights, or float32 ones to be quantised",
            )
        bias = None
        if rule.bias_index is not None and rule.bias_index < len(node.inputs):
            bias = self._known[node.inputs[rule.bias_index]].real()
        q, made = quantize_weights(constant.real(), axis, bias, x.scale)
        what = "float" if quant is None else "not symmetric per output channel"
        self.context.note(f"{node.origin}: its weights are {what}; quantised anew to int8")
        return self._emit(constant.name, q, made)

    def bias(self, node: Node, value: Value, x: TensorType, w: Value) -> Value:
        """int32 bias at scale s_x · s_w."""
        constant, quant = self._known[value], w.type.quant
        assert quant is not None
        scales = np.asarray(quant.scale, np.float64) * x.scale
        if constant.array.dtype == np.int32 and constant.quant:
            given = np.asarray(constant.quant.scale, np.float64)
            plain = not any(constant.quant.zero_point)
            if plain and np.allclose(given, scales, rtol=_SAME_BIAS_SCALE, atol=0):
                return self._emit(constant.name, constant.array, constant.quant)
            self.context.note(
                f"{node.origin}: the scale of its bias is not input scale · weight scale; rescaled"
            )
        q, clamped = quantize_bias(constant.real(), scales)
        if clamped:
            self.context.note(
                f"{node.origin}: the bias of {clamped} channel(s) does not fit int32; clamped"
            )
        made = Quant(tuple(map(float, scales)), (0,) * len(scales), 0 if len(scales) > 1 else None)
        return self._emit(constant.name, q, made)

    def _emit(self, name: str, array: Array, quant: Quant) -> Value:
        """One initializer per array and quantisation, however many nodes share it."""
        stored = Value(name, TensorType(array.shape, DType(array.dtype.name), quant))
        if np.array_equal(self.rewriter.initializers.get(stored, _EMPTY), array):
            return stored
        key = (stored, array.tobytes())
        if key not in self._made:
            self._made[key] = self.rewriter.constant(f"{name}.q", array, quant)
        return self._made[key]

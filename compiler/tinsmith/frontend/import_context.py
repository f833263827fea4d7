"""What an import rule works with: the ONNX node at hand and the graph under construction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np
import onnx

from ..ir.dtypes import Array, DType, Quant, TensorType
from ..ir.graph import Node, Origin, Value
from ..ir.opdef import Absent, OpDef
from ..ir.rewrite import unique_name
from ..ops import get
from ..ops._constants import MOVEMENTS, evaluate_constant, moved_quant
from .model_file import MAX_BYTES, tensor_array

_STORED = frozenset(t.value for t in DType)
_NARROWED = ("float64", "float16", "bfloat16")


class NodeFailure(Exception):
    """One node cannot be imported; caught by the importer, which goes on with the next node."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Builder:
    """The graph under construction; implements `ops._onnx.ImportContext` for the node at hand.

    Attributes:
        arrays: ONNX constants by name, in any dtype.
        values: IR values by ONNX name; None where a failed node left the type unknown.
        initializers, nodes: of the graph.
    """

    def __init__(self, arrays: dict[str, Array]) -> None:
        self.arrays = arrays
        self.values: dict[str, Value | None] = {}
        self.initializers: dict[Value, Array] = {}
        self.nodes: list[Node] = []
        self._names: set[str] = set()
        self._dequantized: dict[Value, Value] = {}
        self._outputs: tuple[str, ...] = ()
        self._origin = Origin()
        self._mark = 0

    def begin(self, outputs: Sequence[str], origin: Origin) -> None:
        """Nodes emitted from now on come from this ONNX node and define these ONNX names."""
        self._outputs = tuple(outputs)
        self._origin = origin
        self._mark = len(self.nodes)

    def finish(self, outputs: Sequence[Value]) -> None:
        """Give the results their ONNX names."""
        for name, value in zip(self._outputs, outputs, strict=False):
            if name:
                self.values[name] = self._named(value, name)

    def abandon(self) -> None:
        """Drop what the node at hand emitted before it failed."""
        del self.nodes[self._mark :]

    def define(self, name: str, type_: TensorType) -> Value:
        """A graph input, or the output of a failed node."""
        value = Value(self._unique(name), type_)
        self.values[name] = value
        return value

    def lookup(self, name: str) -> Value | None:
        """The value of an ONNX name; a constant becomes an initializer. None: of unknown type."""
        if name in self.values:
            return self.values[name]
        array = self.arrays[name]
        if array.dtype.name in _NARROWED:
            array = array.astype(np.float32)
        if array.dtype.name not in _STORED:
            raise NodeFailure(f"the constant {name!r} has the type {array.dtype.name}")
        value = self.constant(name, array)
        self.values[name] = value
        return value

    def emit(
        self, op: OpDef, inputs: Sequence[Value], attrs: Any = None, suffix: str = ""
    ) -> tuple[Value, ...]:
        attrs = op.attrs() if attrs is None else attrs
        if op.name == "dequantize":
            inputs = [self._centred(inputs[0])]
        try:
            types = tuple(op.infer([v.type for v in inputs], attrs))
            if op.name in MOVEMENTS and inputs[0] in self._dequantized:
                return self._move_constant(op, inputs[0], attrs, suffix)
        except ValueError as error:
            raise NodeFailure(str(error)) from error
        if (largest := max(types, key=lambda t: t.bytes)).bytes > MAX_BYTES:
            raise NodeFailure(f"its output {largest} has {largest.bytes:,} B")
        if op.name != "dequantize" and all(v in self.initializers for v in inputs):
            arrays = [self.initializers[v] for v in inputs]
            made = evaluate_constant(op, attrs, inputs, arrays)
            return tuple(
                self.constant(self._hint(suffix, i), a, t.quant)
                for i, (a, t) in enumerate(zip(made, types, strict=True))
            )
        types = tuple(_carry_quant(op, inputs, t) for t in types)
        outputs = tuple(Value(self._unique(self._hint(suffix, i)), t) for i, t in enumerate(types))
        self.nodes.append(Node(op, tuple(inputs), outputs, attrs, self._origin))
        if op.name == "dequantize" and inputs[0] in self.initializers:
            self._dequantized[outputs[0]] = inputs[0]
        return outputs

    def constant(self, hint: str, array: Array, quant: Quant | None = None) -> Value:
        array = np.ascontiguousarray(array) if array.ndim else array
        value = Value(self._unique(hint), TensorType(array.shape, DType(array.dtype.name), quant))
        self.initializers[value] = array
        return value

    def array(self, value: Value) -> Array | None:
        return self.initializers.get(value)

    def is_weight(self, value: Value) -> bool:
        return value in self.initializers or value in self._dequantized

    def op(self, name: str) -> OpDef:
        return get(name)

    def producer(self, value: Value) -> Node | None:
        return next((n for n in reversed(self.nodes) if value in n.outputs), None)

    def _move_constant(self, op: OpDef, x: Value, attrs: Any, suffix: str) -> tuple[Value, ...]:
        """transpose(dequantize(q)) → dequantize(transpose(q))."""
        q = self._dequantized[x]
        (array,) = evaluate_constant(op, attrs, [q], [self.initializers[q]])
        quant = moved_quant(op, attrs, q.type, array.shape)
        moved = self.constant(f"{q.name}.{op.name}", array, quant)
        return self.emit(self.op("dequantize"), [moved], None, suffix)

    def _centred(self, x: Value) -> Value:
        """A constant without its zero point, where int8 holds that: weights have none."""
        array, quant = self.initializers.get(x), x.type.quant
        if array is None or quant is None or array.dtype != np.int8 or not any(quant.zero_point):
            return x
        centred = array.astype(np.int64) - quant.broadcast(quant.zero_point, array.ndim)
        if centred.min() < -128 or centred.max() > 127:
            return x
        zeros = replace(quant, zero_point=(0,) * len(quant.zero_point))
        return self.constant(f"{x.name}.centred", centred.astype(np.int8), zeros)

    def _hint(self, suffix: str, index: int) -> str:
        first = next((name for name in self._outputs if name), self._origin.onnx_name)
        if suffix:
            return first + suffix
        named = index < len(self._outputs) and self._outputs[index]
        return self._outputs[index] if named else f"{first}.{index}"

    def _unique(self, hint: str) -> str:
        return unique_name(hint, self._names)

    def _named(self, value: Value, name: str) -> Value:
        """The value under its ONNX name, when this ONNX node made it."""
        made = {v for n in self.nodes[self._mark :] for v in n.outputs}
        if value.name == name or value not in made:
            return value
        self.rename({v: Value(self._unique(name), v.type) for v in made if v.name == name})
        renamed = Value(name, value.type)
        self._names.add(name)
        self.rename({value: renamed})
        return renamed

    def rename(self, changes: Mapping[Value, Value]) -> None:
        """Replace values everywhere in the graph."""
        if not changes:
            return
        for i, node in enumerate(self.nodes):
            if changes.keys() & {*node.inputs, *node.outputs}:
                self.nodes[i] = replace(
                    node,
                    inputs=tuple(changes.get(v, v) for v in node.inputs),
                    outputs=tuple(changes.get(v, v) for v in node.outputs),
                )
        self.values = {k: changes.get(v, v) if v else None for k, v in self.values.items()}
        for old, new in changes.items():
            if old in self._dequantized:
                self._dequantized[new] = self._dequantized.pop(old)


class NodeView:
    """An ONNX node as an import rule sees it; implements `ops._onnx.OnnxNode`."""

    def __init__(
        self, proto: onnx.NodeProto, builder: Builder, opset: int, read: frozenset[str]
    ) -> None:
        self._proto = proto
        self._builder = builder
        self._opset = opset
        self._read = read
        self._attributes = {a.name: a for a in proto.attribute}
        self.inputs = tuple(builder.lookup(name) if name else None for name in proto.input)

    @property
    def op_type(self) -> str:
        return self._proto.op_type

    @property
    def opset(self) -> int:
        return self._opset

    @property
    def output_count(self) -> int:
        """Outputs up to the last one that anybody reads (at least one)."""
        read = [i for i, name in enumerate(self._proto.output) if name in self._read]
        return max([0, *read]) + 1

    def attr(self, name: str, default: Any = None) -> Any:
        if name not in self._attributes:
            return default
        value = onnx.helper.get_attribute_value(self._attributes[name])
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        if isinstance(value, onnx.TensorProto):
            return tensor_array(value, f"attribute {name!r}")
        if isinstance(value, list):
            return tuple(v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in value)
        return value

    def x(self, index: int = 0) -> Value:
        value = self.inputs[index] if index < len(self.inputs) else None
        if value is None:
            self.fail(f"input {index} is missing")
        return value

    def array(self, index: int) -> Array | None:
        if index >= len(self._proto.input) or not self._proto.input[index]:
            return None
        name = self._proto.input[index]
        if name in self._builder.arrays:
            return self._builder.arrays[name]
        value = self._builder.values[name]
        array = None if value is None else self._builder.array(value)
        if array is None:
            self.fail(f"input {index} ({name!r}) must be constant, and it is computed")
        return array

    def integers(self, index: int) -> tuple[int, ...] | None:
        array = self.array(index)
        if array is None:
            return None
        if array.dtype.kind not in "iu":
            self.fail(f"input {index} holds {array.dtype}, expected integers")
        return tuple(int(i) for i in np.ravel(array))

    def axis(self, axis: int, rank: int) -> int:
        if not -rank <= axis < rank:
            self.fail(f"axis {axis} does not exist in a tensor of rank {rank}")
        return axis % rank

    def fail(self, reason: str) -> NoReturn:
        raise NodeFailure(reason)


def _carry_quant(op: OpDef, inputs: Sequence[Value], type_: TensorType) -> TensorType:
    """Data movement on int8 keeps the scale of its input."""
    if type_.dtype is not DType.INT8 or type_.quant or isinstance(op.integer, Absent):
        return type_
    if op.integer.output in ("as_input", "as_inputs"):
        return replace(type_, quant=inputs[0].type.quant)
    return type_

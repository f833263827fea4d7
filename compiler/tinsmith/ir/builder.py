"""Building graphs by hand: tests, examples and the model generators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .dtypes import Array, DType, Quant, TensorType
from .graph import Graph, Node, Origin, Stage, Value
from .opdef import OpDef


class GraphBuilder:
    """`x = b.input(...)`, `y = b.add(op, [x, w], attrs)`, `b.build([y])`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._inputs: list[Value] = []
        self._initializers: dict[Value, Array] = {}
        self._nodes: list[Node] = []
        self._count = 0

    def input(self, name: str, type_: TensorType) -> Value:
        value = Value(name, type_)
        self._inputs.append(value)
        return value

    def constant(self, name: str, array: Array, quant: Quant | None = None) -> Value:
        value = Value(name, TensorType(array.shape, DType(array.dtype.name), quant))
        self._initializers[value] = array
        return value

    def add(
        self, op: OpDef, inputs: Sequence[Value], attrs: Any = None, name: str | None = None
    ) -> Value:
        """Append a node; returns its first output (see `add_all`)."""
        return self.add_all(op, inputs, attrs, name)[0]

    def add_all(
        self, op: OpDef, inputs: Sequence[Value], attrs: Any = None, name: str | None = None
    ) -> tuple[Value, ...]:
        """Append a node; output i of several is called `name.i`."""
        self._count += 1
        attrs = op.attrs() if attrs is None else attrs
        name = name or f"{op.name}{self._count}"
        types = op.infer([v.type for v in inputs], attrs)
        names = [name] if len(types) == 1 else [f"{name}.{i}" for i in range(len(types))]
        outputs = tuple(Value(n, t) for n, t in zip(names, types, strict=True))
        self._nodes.append(Node(op, tuple(inputs), outputs, attrs, Origin(name, op.name)))
        return outputs

    def build(self, outputs: Sequence[Value], stage: Stage = Stage.FLOAT) -> Graph:
        return Graph(
            self.name,
            tuple(self._inputs),
            tuple(outputs),
            self._initializers,
            tuple(self._nodes),
            stage,
        )

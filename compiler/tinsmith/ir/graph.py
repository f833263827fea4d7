"""The IR on one screen: Value, Node, Graph. All frozen; SSA; nodes in topological order.

Graph  = name, stage, inputs: Value*, outputs: Value*, initializers: {Value: array}, Node*,
         updates: (state, new)*
Node   = op: OpDef, inputs: Value*, outputs: Value*, attrs, Origin
Value  = name, TensorType          (names are unique in a graph)
Origin = the ONNX node it came from, the passes that rewrote it
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cached_property
from typing import Any

import numpy as np

from .dtypes import Array, DType, TensorType
from .opdef import OpDef


class Stage(IntEnum):
    """What a graph satisfies; `verify` holds the rules of each."""

    FLOAT = 0
    QUANTIZED = 1
    TRAINING = 2
    PARTITIONED = 3
    SCHEDULED = 4
    PLANNED = 5


@dataclass(frozen=True)
class Origin:
    """Where a node came from: the ONNX node's name and operator, the passes that rewrote it."""

    onnx_name: str = ""
    onnx_op: str = ""
    passes: tuple[str, ...] = ()

    def rewritten_by(self, name: str) -> Origin:
        return self if name in self.passes else replace(self, passes=(*self.passes, name))

    def __str__(self) -> str:
        return f"{self.onnx_op} {self.onnx_name!r}" if self.onnx_op else repr(self.onnx_name)


@dataclass(frozen=True)
class Value:
    """A tensor in the graph. Equal when name and type are."""

    name: str
    type: TensorType


@dataclass(frozen=True)
class Node:
    """One operation. `attrs` is an instance of `op.attrs`, a frozen dataclass."""

    op: OpDef
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    attrs: Any
    origin: Origin = Origin()

    @property
    def name(self) -> str:
        """Unique in its graph: the name of the first output."""
        return self.outputs[0].name

    @property
    def is_integer(self) -> bool:
        """Whether an int8 output or first input gives the node its integer meaning."""
        types = [v.type.dtype for v in (*self.outputs, self.inputs[0])]
        return DType.INT8 in types or DType.INT16 in types

    @property
    def updates(self) -> tuple[tuple[Value, Value], ...]:
        """(old, new): inputs whose bytes an output replaces, as `op.updates` says."""
        pairs = self.op.updates
        return tuple(
            (self.inputs[i], self.outputs[o])
            for o, i in pairs
            if i < len(self.inputs) and o < len(self.outputs)
        )

    @property
    def x(self) -> TensorType:
        return self.inputs[0].type

    @property
    def y(self) -> TensorType:
        return self.outputs[0].type


@dataclass(frozen=True, eq=False)
class Graph:
    """One network. Derived views (`producer`, `consumers`) are computed once."""

    name: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    initializers: Mapping[Value, Array]
    nodes: tuple[Node, ...]
    stage: Stage = Stage.FLOAT
    # Permutation from the ONNX axis order to this graph's, by position; absent: the same.
    input_layouts: tuple[tuple[int, ...] | None, ...] = ()
    output_layouts: tuple[tuple[int, ...] | None, ...] = ()
    # Mutable state: (initializer, the value whose bytes replace it when the graph has run; itself
    # where this graph only reads it).
    updates: tuple[tuple[Value, Value], ...] = ()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Graph):
            return NotImplemented
        return (
            self._key() == other._key()
            and self.initializers.keys() == other.initializers.keys()
            and all(np.array_equal(a, other.initializers[v]) for v, a in self.initializers.items())
        )

    __hash__ = object.__hash__

    def _key(self) -> tuple[object, ...]:
        layouts = (self.input_layouts, self.output_layouts)
        ends = (self.inputs, self.outputs, self.updates)
        return (self.name, self.stage, *ends, self.nodes, layouts)

    def input_layout(self, index: int) -> tuple[int, ...] | None:
        """None: the axis order of the ONNX model."""
        return self.input_layouts[index] if index < len(self.input_layouts) else None

    def output_layout(self, index: int) -> tuple[int, ...] | None:
        """None: the axis order of the ONNX model."""
        return self.output_layouts[index] if index < len(self.output_layouts) else None

    @cached_property
    def state(self) -> tuple[Value, ...]:
        """The initializers that a run changes: they live in RAM, not in flash."""
        return tuple(old for old, _ in self.updates)

    @cached_property
    def storage(self) -> Mapping[Value, Value]:
        """Every version of a state → the initializer whose bytes it has; none is in the arena."""
        found = {old: old for old in self.state}
        for node in self.nodes:
            found |= {new: found[old] for old, new in node.updates if old in found}
        return found

    @cached_property
    def transient(self) -> frozenset[Value]:
        """The state that starts anew when a device does: stores and deltas leave it out."""
        named = (n.inputs[i] for n in self.nodes for i in n.op.transient)
        return frozenset(self.storage[v] for v in named if v in self.storage)

    @cached_property
    def producer(self) -> Mapping[Value, Node]:
        return {v: n for n in self.nodes for v in n.outputs}

    @cached_property
    def consumers(self) -> Mapping[Value, tuple[Node, ...]]:
        """Nodes that read a value, once each, in order. Values nobody reads are absent."""
        readers: dict[Value, list[Node]] = {}
        for node in self.nodes:
            for value in dict.fromkeys(node.inputs):
                readers.setdefault(value, []).append(node)
        return {v: tuple(ns) for v, ns in readers.items()}

    @cached_property
    def values(self) -> tuple[Value, ...]:
        """Every value: inputs, initializers, then node outputs in order."""
        made = (v for n in self.nodes for v in n.outputs)
        return tuple(dict.fromkeys((*self.inputs, *self.initializers, *made)))

    def constant(self, value: Value) -> Array:
        """The array of an initializer."""
        return self.initializers[value]

    def is_constant(self, value: Value) -> bool:
        return value in self.initializers and value not in self.state

    def activations(self, node: Node) -> tuple[Value, ...]:
        """The node's inputs that are computed or fed: neither constant nor state."""
        return tuple(v for v in node.inputs if v not in self.initializers and v not in self.storage)

    def results(self, node: Node) -> tuple[Value, ...]:
        """The node's outputs that are not new versions of a state: with bytes of their own."""
        return tuple(v for v in node.outputs if v not in self.storage)

    def sole_consumer(self, value: Value) -> Node | None:
        """The only node that reads `value`; None when several do or it is a graph output."""
        readers = self.consumers.get(value, ())
        return readers[0] if len(readers) == 1 and value not in self.outputs else None

    def with_nodes(self, nodes: Iterable[Node], **changes: Any) -> Graph:
        """A copy with other nodes, its unused initializers dropped."""
        nodes = tuple(nodes)
        read = {v for n in nodes for v in n.inputs} | set(changes.get("outputs", self.outputs))
        read |= {old for old, _ in changes.get("updates", self.updates)}
        pool = changes.pop("initializers", self.initializers)
        kept = {v: a for v, a in pool.items() if v in read}
        return replace(self, nodes=nodes, initializers=kept, **changes)

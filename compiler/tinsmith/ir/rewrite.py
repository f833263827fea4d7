"""Rebuilding a graph: every pass that changes one goes through a Rewriter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .dtypes import Array, DType, Quant, TensorType
from .graph import Graph, Node, Origin, Value
from .opdef import OpDef


def unique_name(hint: str, taken: set[str]) -> str:
    """The hint, with a number where it is taken; `taken` gets the name."""
    name, n = hint, 0
    while name in taken:
        n += 1
        name = f"{hint}.{n}"
    taken.add(name)
    return name


class Rewriter:
    """Collects the nodes of a new graph while walking an old one.

    `rename(old, new)` makes every later reader of `old` (graph outputs too) read `new`; types may
    differ, and the nodes downstream are re-inferred by `keep`.
    """

    def __init__(self, graph: Graph, pass_name: str) -> None:
        self.graph = graph
        self.pass_name = pass_name
        self.nodes: list[Node] = []
        self.initializers: dict[Value, Array] = dict(graph.initializers)
        self._renamed: dict[Value, Value] = {}
        self._names = {v.name for v in graph.values}

    def current(self, value: Value) -> Value:
        """What a reader of `value` must read now."""
        while value in self._renamed:
            value = self._renamed[value]
        return value

    def rename(self, old: Value, new: Value) -> None:
        if old != new:
            self._renamed[old] = new

    def unique(self, hint: str) -> str:
        """The hint, or with a number where it is taken; reserved from now on."""
        return unique_name(hint, self._names)

    def constant(self, hint: str, array: Array, quant: Quant | None = None) -> Value:
        """A new initializer."""
        array = np.ascontiguousarray(array) if array.ndim else array
        type_ = TensorType(array.shape, DType(array.dtype.name), quant)
        value = Value(self.unique(hint), type_)
        self.initializers[value] = array
        return value

    def array(self, value: Value) -> Array | None:
        """The array of `value` if it is constant."""
        return self.initializers.get(self.current(value))

    def emit(
        self,
        op: OpDef,
        inputs: Sequence[Value],
        attrs: Any = None,
        *,
        origin: Origin,
        outputs: Sequence[Value] | None = None,
        name: str | None = None,
        types: Sequence[TensorType] | None = None,
    ) -> tuple[Value, ...]:
        """Append a node: outputs are `outputs`, or new values named after `name`, typed."""
        inputs = tuple(self.current(v) for v in inputs)
        attrs = op.attrs() if attrs is None else attrs
        if outputs is None:
            types = types or tuple(op.infer([v.type for v in inputs], attrs))
            hint = name or op.name
            outputs = tuple(Value(self.unique(hint), t) for t in types)
        node = Node(op, inputs, tuple(outputs), attrs, origin.rewritten_by(self.pass_name))
        self.nodes.append(node)
        return node.outputs

    def keep(self, node: Node) -> Node:
        """Append an old node, reading current values; outputs re-typed if its inputs changed."""
        inputs = tuple(self.current(v) for v in node.inputs)
        if inputs == node.inputs:
            self.nodes.append(node)
            return node
        outputs = node.outputs
        if any(a.type != b.type for a, b in zip(inputs, node.inputs, strict=True)):
            types = node.op.infer([v.type for v in inputs], node.attrs)
            outputs = tuple(
                v if (v.type.shape, v.type.dtype) == (t.shape, t.dtype) else Value(v.name, t)
                for v, t in zip(node.outputs, types, strict=True)
            )
            for old, new in zip(node.outputs, outputs, strict=True):
                self.rename(old, new)
        kept = replace(node, inputs=inputs, outputs=outputs)
        self.nodes.append(kept)
        return kept

    def finish(self, **changes: Any) -> Graph:
        """The new graph: outputs follow the renames, unread initializers are dropped."""
        changes.setdefault("outputs", tuple(self.current(v) for v in self.graph.outputs))
        return self.graph.with_nodes(self.nodes, initializers=self.initializers, **changes)


def rewrite_nodes(graph: Graph, pass_name: str, visit: Callable[[Node, Rewriter], bool]) -> Graph:
    """Walk the nodes in order; `visit` emits a replacement and returns True; False keeps it."""
    rewriter = Rewriter(graph, pass_name)
    for node in graph.nodes:
        current = replace(node, inputs=tuple(rewriter.current(v) for v in node.inputs))
        if not visit(current, rewriter):
            rewriter.keep(node)
    return rewriter.finish()


def live_nodes(graph: Graph, roots: Iterable[Value]) -> tuple[Node, ...]:
    """The nodes that the roots depend on, in order."""
    wanted = set(roots)
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if wanted.intersection(node.outputs):
            kept.append(node)
            wanted.update(node.inputs)
    return tuple(reversed(kept))

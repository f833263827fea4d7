"""How each value is stored while `legalize_layout` rebuilds a graph: what its rules work on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import InternalError
from ..ir.dtypes import Array, Quant, Shape, TensorType
from ..ir.graph import Graph, Node, Origin, Value
from ..ir.rewrite import Rewriter
from ..ops import get

Perm = tuple[int, ...]


@dataclass(frozen=True)
class Stored:
    """An old value is kept as `value`, whose axis i is the old axis perm[i].

    columns: its last axis is reordered besides, new[..., j] = old[..., columns[j]].
    """

    value: Value
    perm: Perm
    columns: tuple[int, ...] | None = None


def identity(rank: int) -> Perm:
    return tuple(range(rank))


def channels_last(rank: int) -> Perm:
    """NCHW → NHWC, and its like for other ranks."""
    return identity(rank) if rank < 3 else (0, *range(2, rank), 1)


def output_perm(rank: int) -> Perm:
    """The order a graph output may have beside its old one."""
    return channels_last(rank) if rank in (3, 4) else identity(rank)


def permuted(shape: Shape, perm: Perm) -> Shape:
    return tuple(shape[p] for p in perm)


def keeps_order(shape: Shape, perm: Perm) -> bool:
    """Whether permuting moves only axes of one element, so that no byte moves."""
    moved = [p for p in perm if shape[p] != 1]
    return moved == sorted(moved)


def permuted_type(type_: TensorType, perm: Perm) -> TensorType:
    quant: Quant | None = type_.quant
    if quant is not None and quant.axis is not None:
        quant = quant.along(perm.index(quant.axis))
    return replace(type_, shape=permuted(type_.shape, perm), quant=quant)


class Layouts:
    """The new graph, and where every old value is in it."""

    def __init__(self, graph: Graph, pass_name: str) -> None:
        self.graph = graph
        self.rewriter = Rewriter(graph, pass_name)
        self._stored: dict[Value, Stored] = {}
        self._made: dict[tuple[Value, Perm, tuple[int, ...] | None], Value] = {}
        self._dequantized: dict[Value, Node] = {
            n.outputs[0]: n
            for n in graph.nodes
            if n.op.name == "dequantize" and graph.is_constant(n.inputs[0])
        }

    def store(
        self, old: Value, new: Value, perm: Perm, columns: tuple[int, ...] | None = None
    ) -> None:
        self._stored[old] = Stored(new, perm, columns)

    def stored(self, old: Value) -> Stored:
        """Where a computed value is; a weight is where it always was."""
        if self.is_weight(old):
            return Stored(self.read(old), identity(old.type.rank))
        return self._stored.get(old, Stored(old, identity(old.type.rank)))

    def is_weight(self, old: Value) -> bool:
        """A constant, or dequantised from one: it can be had in any layout for nothing."""
        return self.graph.is_constant(old) or old in self._dequantized

    def weight_node(self, node: Node) -> bool:
        """A dequantize that is only emitted when its result is read."""
        return node.outputs[0] in self._dequantized

    def read(self, old: Value, perm: Perm | None = None) -> Value:
        """The value in the layout `perm` (by default the old one); transposed when it is not."""
        perm = identity(old.type.rank) if perm is None else perm
        if self.is_weight(old):
            return self._weight(old, old.type.shape, perm, None)
        stored = self.stored(old)
        if stored.columns is not None:
            raise InternalError(f"%{old.name} has reordered columns", where="legalize_layout")
        if stored.perm == perm:
            return stored.value
        key = (old, perm, None)
        if key not in self._made:
            self._made[key] = self._transposed(old, stored, perm)
        return self._made[key]

    def weight(
        self, old: Value, shape: Shape, perm: Perm, columns: tuple[int, ...] | None = None
    ) -> Value:
        """A weight reshaped (adding axes of one element), permuted, its last axis reordered."""
        return self._weight(old, shape, perm, columns)

    def write(
        self,
        node: Node,
        inputs: Sequence[Value],
        perms: Sequence[Perm],
        attrs: Any = None,
        columns: tuple[int, ...] | None = None,
    ) -> None:
        """Emit the node on new inputs; its outputs are stored with these permutations."""
        attrs = node.attrs if attrs is None else attrs
        outputs = tuple(
            Value(self._name(v, p), permuted_type(v.type, p))
            for v, p in zip(node.outputs, perms, strict=True)
        )
        if tuple(inputs) == node.inputs and outputs == node.outputs and attrs == node.attrs:
            self.rewriter.keep(node)
        else:
            self.rewriter.emit(node.op, inputs, attrs, origin=node.origin, outputs=outputs)
        for old, new, perm in zip(node.outputs, outputs, perms, strict=True):
            self.store(old, new, perm, columns)

    def _name(self, old: Value, perm: Perm) -> str:
        """The old name, unless a graph output must still be transposed and get it then."""
        rank = old.type.rank
        if old not in self.graph.outputs or perm in (identity(rank), output_perm(rank)):
            return old.name
        return self.rewriter.unique(f"{old.name}.stored")

    def _weight(
        self, old: Value, shape: Shape, perm: Perm, columns: tuple[int, ...] | None
    ) -> Value:
        unchanged = shape == old.type.shape and perm == identity(len(shape)) and columns is None
        below = self._dequantized.get(old)
        if unchanged and below is None:
            return old
        key = (old, (*shape, *perm), columns)
        if key not in self._made:
            source = old if below is None else below.inputs[0]
            value = source if unchanged else self._rearranged(source, shape, perm, columns)
            if below is not None:
                outputs = (old,) if unchanged else None
                name = f"{old.name}.nhwc"
                (value,) = self.rewriter.emit(
                    below.op, [value], origin=below.origin, outputs=outputs, name=name
                )
            self._made[key] = value
        return self._made[key]

    def _rearranged(
        self, source: Value, shape: Shape, perm: Perm, columns: tuple[int, ...] | None
    ) -> Value:
        array: Array = self.graph.constant(source).reshape(shape).transpose(perm)
        if columns is not None:
            array = array[..., list(columns)]
        quant = source.type.quant
        if quant is not None and quant.axis is not None:
            added = len(shape) - source.type.rank
            quant = quant.along(perm.index(quant.axis + added))
        return self.rewriter.constant(f"{source.name}.nhwc", np.ascontiguousarray(array), quant)

    def _transposed(self, old: Value, stored: Stored, perm: Perm) -> Value:
        """From the stored layout into `perm`; a reshape when no byte moves."""
        step = tuple(stored.perm.index(p) for p in perm)
        producer = self.graph.producer.get(old)
        origin = producer.origin if producer else Origin(old.name)
        name = f"{old.name}.transposed"
        if keeps_order(stored.value.type.shape, step):
            reshape = get("reshape")
            attrs = reshape.attrs(permuted(old.type.shape, perm))
            return self.rewriter.emit(reshape, [stored.value], attrs, origin=origin, name=name)[0]
        transpose = get("transpose")
        attrs = transpose.attrs(step)
        return self.rewriter.emit(transpose, [stored.value], attrs, origin=origin, name=name)[0]

"""The permutation classes of a part of a network: which axes share an order, which must stay."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..ir.dtypes import Array
from ..ir.graph import Graph, Node, Value
from .axes import Free, Orders, Term
from .rules import Axes, NodeAxes, relate


@dataclass(frozen=True)
class Classes:
    """The axes of every activation, and of every constant by (node name, input index)."""

    values: Mapping[Value, Axes]
    constants: Mapping[tuple[str, int], Axes]
    orders: Orders

    def channels(self, value: Value) -> Term:
        """The order of a value's last axis."""
        return self.orders.resolve(self.values[value][-1])

    def free(self, term: Term) -> tuple[Free, ...]:
        """The classes that an axis is made of; none when it must stay natural."""
        return self.orders.classes(term)

    def all(self) -> tuple[Free, ...]:
        """Every class that a constant or a value has an axis of, in graph order."""
        axes = [*self.values.values(), *self.constants.values()]
        return tuple(dict.fromkeys(c for terms in axes for t in terms for c in self.free(t)))

    def order(self, term: Term, drawn: Callable[[Free], Array]) -> Array | None:
        """Natural indices by position; None when the axis stays in natural order."""
        if not self.free(term):
            return None
        order = self.orders.order(term, drawn)
        return None if np.array_equal(order, np.arange(len(order))) else order


def find_classes(
    graph: Graph, nodes: Sequence[Node], locked: Iterable[Value], pinned: Iterable[Value]
) -> Classes:
    """The classes of `nodes`, a part of `graph` in its order.

    locked: values from outside whose last axis may be permuted; everything else from outside is in
    natural order. pinned: values that must stay natural, graph outputs for instance.
    """
    orders = Orders()
    values: dict[Value, Axes] = {}
    constants: dict[tuple[str, int], Axes] = {}
    permutable = set(locked)

    def axes_of(node: Node, index: int) -> Axes:
        value = node.inputs[index]
        if graph.is_constant(value):
            constants[node.name, index] = _fresh(orders, value)
            return constants[node.name, index]
        if value not in values:
            values[value] = _fresh(orders, value)
            orders.pin(*values[value][: -1 if value in permutable else None])
        return values[value]

    for node in nodes:
        inputs = [axes_of(node, i) for i in range(len(node.inputs))]
        values |= {v: _fresh(orders, v) for v in node.outputs}
        relate(NodeAxes(node, inputs, [values[v] for v in node.outputs], orders))
    for value in pinned:
        orders.pin(*values.get(value, ()))
    return Classes(values, constants, orders)


def _fresh(orders: Orders, value: Value) -> Axes:
    return tuple(orders.fresh(d) for d in value.type.shape)

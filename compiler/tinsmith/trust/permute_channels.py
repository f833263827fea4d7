"""Put the constants of a network's nodes into the order of their permutation classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from ..ir.dtypes import Array, Quant
from ..ir.graph import Graph, Node, Value
from ..ir.rewrite import Rewriter
from .axes import Free
from .classes import Classes


def permute_channels(
    graph: Graph,
    nodes: Sequence[Node],
    classes: Classes,
    drawn: Callable[[Free], Array],
    rewriter: Rewriter,
) -> None:
    """Emit `nodes` with their filters, biases, multipliers, shifts and other constants permuted.

    drawn: the permutation of a class. Scales per channel move with their channels.
    """
    for node in nodes:
        inputs = list(node.inputs)
        for i, value in enumerate(node.inputs):
            axes = classes.constants.get((node.name, i))
            if axes is None:
                continue
            orders = [classes.order(t, drawn) for t in axes]
            if any(o is not None for o in orders):
                inputs[i] = permuted(graph, value, orders, rewriter)
        rewriter.keep(replace(node, inputs=tuple(inputs)))


def permuted(
    graph: Graph, value: Value, orders: Sequence[Array | None], rewriter: Rewriter
) -> Value:
    """A new constant: `value` with each axis in the order given; None leaves an axis."""
    array = graph.constant(value)
    quant = value.type.quant
    for axis, order in enumerate(orders):
        if order is None:
            continue
        array = array.take(order, axis=axis)
        if quant is not None and quant.axis == axis:
            quant = Quant(_taken(quant.scale, order), _taken(quant.zero_point, order), axis)
    return rewriter.constant(f"{value.name}.locked", np.ascontiguousarray(array), quant)


_Number = TypeVar("_Number", int, float)


def _taken(values: tuple[_Number, ...], order: Array) -> tuple[_Number, ...]:
    return tuple(values[i] for i in order.tolist())

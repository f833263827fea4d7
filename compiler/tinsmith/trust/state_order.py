"""Where every element of a model's state lies in the state of its protected form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from ..errors import InternalError
from ..ir.dtypes import Array, DType
from ..ir.graph import Graph, Node, Value
from ..ops._rounding import pack_nibbles, unpack_nibbles


@dataclass(frozen=True)
class LayerOrder:
    """int64: the natural channel at every place, of a layer's outputs and a filter's inputs."""

    out: Array
    inner: Array


# A layer of the plain training graph, the same of the protected one, and its order.
Layer: TypeAlias = tuple[Node, Node, LayerOrder]


def state_orders(plain: Graph, locked: Graph, layers: Sequence[Layer]) -> tuple[Array, ...]:
    """Per state of both graphs: which element of the plain one is at every place, int64[n].

    Raises InternalError when the graphs do not have the same states.
    """
    whole: dict[Value, Array] = {}
    moving: dict[Value, Array] = {}  # by the weights: of their residual and velocity
    for node, other, order in layers:
        trained, bias = node.inputs[2:4]
        columns = _places(node.attrs.trained_channels, order.inner, other.attrs.trained_channels)
        every = tuple(range(order.out.size))
        mine, theirs = (n.attrs.update_channels or every for n in (node, other))
        rows = _places(mine, order.out, theirs)
        whole[trained] = _taken(trained.type.shape, order.out, columns)
        moving[trained] = _taken((len(mine), *trained.type.shape[1:]), rows, columns)
        whole[bias] = order.out
    for node in plain.nodes:
        _add_optimizer(plain, node, whole, moving)
    if len(plain.state) != len(locked.state):
        raise InternalError("a protected model has other states than the plain one")
    for mine, theirs in zip(plain.state, locked.state, strict=True):
        if mine not in whole or mine.type.shape != theirs.type.shape:
            raise InternalError(f"the order of the state %{mine.name} is not known")
    return tuple(whole[v] for v in plain.state)


def to_locked(array: Array, order: Array) -> Array:
    """A state of the plain model as the protected one has it."""
    return _rearranged(array, order)


def to_plain(array: Array, order: Array) -> Array:
    """The inverse of `to_locked`."""
    return _rearranged(array, np.argsort(order))


def _rearranged(array: Array, source: Array) -> Array:
    if array.dtype == DType.UINT8.numpy:  # residual4: two to a byte
        return pack_nibbles(unpack_nibbles(array, (source.size,))[source])
    return array.reshape(-1)[source].reshape(array.shape)


def _add_optimizer(
    graph: Graph, node: Node, whole: dict[Value, Array], moving: dict[Value, Array]
) -> None:
    """What the update rule, momentum and batches keep."""

    def state(index: int) -> Value:
        return graph.storage[node.inputs[index]]

    if node.op.name == "weight_update" and len(node.outputs) == 3:
        whole[state(7)] = moving[state(5)]
    elif node.op.name == "apply_weights":
        whole[state(2)] = moving[state(3)]
        if len(node.outputs) == 4:
            whole[state(5)] = moving[state(3)]
    elif node.op.name == "apply_bias":
        whole[state(2)] = whole[state(3)]
    elif node.op.name == "count_sample":
        whole[state(0)] = np.arange(1)


def _places(mine: Sequence[int], order: Array, theirs: Sequence[int]) -> Array:
    """Where in the ascending list `mine` the channels are that `theirs` names by their places."""
    natural = order[list(theirs)]
    if not np.array_equal(np.sort(natural), mine):
        raise InternalError("a protected layer does not train the channels of the plain one")
    return np.searchsorted(np.asarray(mine), natural)


def _taken(shape: Sequence[int], rows: Array, columns: Array) -> Array:
    return np.arange(int(np.prod(shape))).reshape(shape)[rows][..., columns].reshape(-1)

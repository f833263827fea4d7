"""The numpy interpreter: the oracle every target must match, bit for bit on the integer path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..errors import InternalError
from .dtypes import Array
from .graph import Graph, Node, Value
from .opdef import Absent


def evaluate(node: Node, arrays: Sequence[Array]) -> tuple[Array, ...]:
    """The outputs of one node, in its integer or its float meaning."""
    rule = node.op.reference
    if node.is_integer and not isinstance(node.op.integer, Absent):
        reference = node.op.integer.reference
        if isinstance(reference, Absent):
            raise InternalError(
                f"{node.op.name} has no integer meaning of its own: {reference.reason}",
                node=str(node.origin),
            )
        rule = reference
    outputs = tuple(rule(node, arrays))
    for value, array in zip(node.outputs, outputs, strict=True):
        if array.shape != value.type.shape or array.dtype != value.type.dtype.numpy:
            raise InternalError(
                f"{node.op.name} computed {array.dtype}{list(array.shape)}",
                expected=str(value.type),
                node=str(node.origin),
            )
    return outputs


def trace(graph: Graph, inputs: Sequence[Array]) -> Iterator[tuple[Node, tuple[Array, ...]]]:
    """Run one sample, yielding each node with its outputs. Dead arrays are dropped on the way."""
    live: dict[Value, Array] = dict(zip(graph.inputs, inputs, strict=True))
    last = {v: i for i, n in enumerate(graph.nodes) for v in n.inputs}
    for i, node in enumerate(graph.nodes):
        arrays = [_fetch(graph, live, v) for v in node.inputs]
        outputs = evaluate(node, arrays)
        live.update(zip(node.outputs, outputs, strict=True))
        for value in node.inputs:
            if last[value] == i and value not in graph.outputs:
                live.pop(value, None)
        yield node, outputs


def run(graph: Graph, inputs: Sequence[Array]) -> tuple[Array, ...]:
    """Run one sample. Arrays have the exact shape and dtype of the graph inputs."""
    produced: dict[Value, Array] = dict(zip(graph.inputs, inputs, strict=True))
    for value, array in produced.items():
        if array.shape != value.type.shape or array.dtype != value.type.dtype.numpy:
            raise InternalError(
                f"input {value.name} is {array.dtype}{list(array.shape)}", expected=str(value.type)
            )
    wanted = set(graph.outputs)
    for node, outputs in trace(graph, inputs):
        produced |= {v: a for v, a in zip(node.outputs, outputs, strict=True) if v in wanted}
    return tuple(_fetch(graph, produced, v) for v in graph.outputs)


def run_step(
    graph: Graph, inputs: Sequence[Array], state: Mapping[Value, Array]
) -> tuple[tuple[Array, ...], dict[Value, Array]]:
    """Run one sample of a graph with state: its outputs, and the state after it.

    state: the array of every value of `graph.state`.
    """
    current = replace(graph, initializers={**graph.initializers, **state})
    wanted = {new for old, new in graph.updates if new != old}
    produced: dict[Value, Array] = {}
    ends = replace(current, outputs=(*graph.outputs, *wanted))
    for node, outputs in trace(ends, inputs):
        produced |= dict(zip(node.outputs, outputs, strict=True))
        produced = {v: a for v, a in produced.items() if v in ends.outputs}
    live = {**dict(zip(graph.inputs, inputs, strict=True)), **produced}
    results = tuple(_fetch(current, live, v) for v in graph.outputs)
    after = {**state, **produced}
    return results, {old: after[new] for old, new in graph.updates}


def run_batch(graph: Graph, batches: Sequence[Array]) -> tuple[Array, ...]:
    """Run many samples: each array is [samples, *shape]; outputs are stacked likewise."""
    rows = [run(graph, sample) for sample in zip(*batches, strict=True)]
    return tuple(np.stack(column) for column in zip(*rows, strict=True))


def _fetch(graph: Graph, live: Mapping[Value, Array], value: Value) -> Array:
    return graph.initializers[value] if value in graph.initializers else live[value]

"""Running a network over many samples, several at a time where the operators permit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from ..errors import CompileError
from ..ir.dtypes import Array
from ..ir.graph import Graph, Node, Value
from ..ir.interpret import evaluate

_ROUNDING = 0.05
_BATCH_BYTES = 32 * 2**20  # the largest activation of a batch stays below this

ValueArrays = Iterable[tuple[Value, Array]]


def run_batched(
    graph: Graph, samples: Sequence[Array], step: int | None = None
) -> Iterator[tuple[int, ValueArrays]]:
    """Per batch: how many samples, and every graph input and node output with its array.

    samples: one array [samples, *shape] per graph input. The arrays that come back hold the samples
    of a batch one after another along their first axis, whatever its meaning; they are dropped as
    soon as no later node reads them. step: samples per batch, by default `batch_step(graph)`.
    """
    total, step = len(samples[0]), step or batch_step(graph)
    for start in range(0, total, step):
        rows = [s[start : start + step] for s in samples]
        count = len(rows[0])
        yield count, _run(graph, rows, count)


def run_many(graph: Graph, samples: Sequence[Array]) -> tuple[Array, ...]:
    """The graph outputs, [samples, *shape] each: `interpret.run_batch`, faster.

    samples: one array [samples, *shape] per graph input, in its dtype.
    """
    rows: dict[Value, list[Array]] = {v: [] for v in graph.outputs}
    for count, values in run_batched(graph, samples):
        for value, array in values:
            if value in rows:
                rows[value].append(array.reshape((count, *value.type.shape)))
    return tuple(np.concatenate(rows[v]) for v in graph.outputs)


def _run(graph: Graph, rows: Sequence[Array], count: int) -> Iterator[tuple[Value, Array]]:
    live: dict[Value, Array] = {}
    for value, row in zip(graph.inputs, rows, strict=True):
        live[value] = row.reshape((-1, *value.type.shape[1:])) if value.type.rank else row[0]
        yield value, live[value]
    last = {v: i for i, n in enumerate(graph.nodes) for v in n.inputs}
    for i, node in enumerate(graph.nodes):
        arrays = [
            graph.initializers[v] if v in graph.initializers else live[v] for v in node.inputs
        ]
        outputs = evaluate(rebatched(graph, node, count) if count > 1 else node, arrays)
        yield from zip(node.outputs, outputs, strict=True)
        live.update(zip(node.outputs, outputs, strict=True))
        for value in node.inputs:
            if last[value] == i:
                live.pop(value, None)


def rebatched(graph: Graph, node: Node, count: int) -> Node:
    """The node over `count` samples: every activation `count` times as long on its first axis."""

    def longer(value: Value) -> Value:
        if value in graph.initializers:
            return value
        shape = value.type.shape
        return Value(value.name, value.type.with_shape((shape[0] * count, *shape[1:])))

    attrs = node.attrs
    if node.op.name == "reshape":
        attrs = replace(attrs, shape=(attrs.shape[0] * count, *attrs.shape[1:]))
    inputs, outputs = tuple(map(longer, node.inputs)), tuple(map(longer, node.outputs))
    return replace(node, inputs=inputs, outputs=outputs, attrs=attrs)


def with_batch(graph: Graph, count: int) -> Graph:
    """The same network over `count` samples at once, one after another along the first axis.

    Raises CompileError for a network that learns, or where an operator minds its first axis.
    """
    if count == 1:
        return graph
    if count < 1 or graph.updates or not _batchable(graph):
        raise CompileError(
            f"the network cannot compute a batch of {count}",
            expected="at least 1, no training, and operators that take every sample by itself",
        )
    nodes = [rebatched(graph, node, count) for node in graph.nodes]
    made = {v.name: v for node in nodes for v in (*node.inputs, *node.outputs)}

    def longer(value: Value) -> Value:
        shape = value.type.shape
        batch = Value(value.name, value.type.with_shape((shape[0] * count, *shape[1:])))
        return made.get(value.name, batch)

    inputs, outputs = tuple(map(longer, graph.inputs)), tuple(map(longer, graph.outputs))
    return graph.with_nodes(nodes, inputs=inputs, outputs=outputs)


def _batchable(graph: Graph) -> bool:
    """Whether no operator mixes the first axis with others.

    Decided by trial: two different random samples, together and one by one, must give the same.
    """
    random = np.random.default_rng(0)
    shapes = [v.type.shape for v in graph.inputs]
    if any(not shape or shape[0] != 1 for shape in shapes):
        return False
    if any(v.type.shape[:1] != (1,) for n in graph.nodes for v in n.outputs):
        return False
    pair = [
        random.normal(0, 30, (2, *v.type.shape)).astype(v.type.dtype.numpy) for v in graph.inputs
    ]
    try:
        together = list(_run(graph, pair, 2))
    except (CompileError, ValueError, IndexError):  # an operator that knows its batch is 1
        return False
    for i in range(2):
        alone = _run(graph, [p[i : i + 1] for p in pair], 1)
        for (_, both), (_, one) in zip(together, alone, strict=True):
            if not _close(both[i : i + 1], one):
                return False
    return True


def _close(a: Array, b: Array) -> bool:
    """Equal integers; equal floats but for the order of summation, which may flip a few LSB."""
    if b.dtype.kind != "f":
        return np.array_equal(a, b)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return False
    return float(np.linalg.norm(a - b)) <= _ROUNDING * float(np.linalg.norm(b)) + 1e-6


def fold_weights(graph: Graph) -> Graph:
    """The graph with every node of constants evaluated, `dequantize` too: faster to run often."""
    known = dict(graph.initializers)
    nodes: list[Node] = []
    for node in graph.nodes:
        if all(v in known for v in node.inputs):
            arrays = evaluate(node, [known[v] for v in node.inputs])
            known.update(zip(node.outputs, arrays, strict=True))
        else:
            nodes.append(node)
    return graph.with_nodes(nodes, initializers=known)


def batch_step(graph: Graph) -> int:
    """How many samples can run at once: 1 where an operator minds its first axis."""
    largest = max((v.type.bytes for v in graph.values if v not in graph.initializers), default=1)
    size = max(1, min(32, _BATCH_BYTES // (8 * max(1, largest))))
    return size if size > 1 and _batchable(graph) else 1

"""Puts the two worlds of a network that learns back together, for the interpreter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tinsmith.ir.graph import Graph, Node, Stage, Value
from tinsmith.ir.verify import verify
from tinsmith.trust.learning import LockedLearning
from tinsmith.trust.partition import Partition, join_graphs


def join_learning(locked: LockedLearning, parts: Partition) -> Graph:
    """One training graph. Its states are the non-secure ones, then those of the secure world."""
    if locked.forward is None or locked.backward is None:
        return join_graphs(locked.graph, parts.secure)
    graph, forward, backward = locked.graph, locked.forward, locked.backward
    names: dict[Value, Value] = {}
    for part in (forward, backward):
        names |= {v: Value(f"secure.{v.name}", v.type) for v in part.values}
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.op.name == "authorize":
            nodes += _inlined(node.inputs, node.outputs, forward, names)
        elif node.op.name == "authorize_gradient":
            given = node.inputs[: node.attrs.given]
            names[backward.inputs[-1]] = graph.inputs[-1]
            nodes += _inlined(given[:1], node.outputs, backward, names)
        else:
            nodes.append(node)
    secret = {names[v]: a for part in (forward, backward) for v, a in part.initializers.items()}
    updates = tuple((names[a], names[b]) for a, b in backward.updates)
    joined = replace(graph, stage=Stage.TRAINING).with_nodes(
        nodes,
        initializers={**graph.initializers, **secret},
        updates=(*((a, b) for a, b in graph.updates if a != b), *updates),
    )
    verify(joined, "after join_learning")
    return joined


def _inlined(
    given: Sequence[Value], made: Sequence[Value], part: Graph, names: dict[Value, Value]
) -> list[Node]:
    names |= dict(zip(part.inputs, given, strict=False))
    names |= dict(zip(part.outputs, made, strict=False))
    return [_renamed(n, names) for n in part.nodes]


def _renamed(node: Node, names: Mapping[Value, Value]) -> Node:
    inputs, outputs = (tuple(names.get(v, v) for v in vs) for vs in (node.inputs, node.outputs))
    return replace(node, inputs=inputs, outputs=outputs)

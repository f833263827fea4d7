"""Drop nodes that nothing reads, and nodes that hand their input on unchanged; join reshapes.

Importers and the other passes leave such nodes behind rather than each cleaning up after itself.
A graph output keeps its name: what computes an identity's input is renamed, or the identity stays.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..ir.graph import Graph, Node, Value
from ..ir.rewrite import live_nodes
from ..pass_manager import Pass, PassContext


def run(graph: Graph, context: PassContext) -> Graph:
    del context
    renamed: dict[Value, Value] = {}

    def now(value: Value) -> Value:
        while value in renamed:
            value = renamed[value]
        return value

    kept: list[Node] = []
    joined = replace(graph, nodes=_join_reshapes(graph))
    for node in live_nodes(joined, graph.outputs):
        if not is_identity(node):
            kept.append(node)
            continue
        x, y = now(node.inputs[0]), node.outputs[0]
        if y not in graph.outputs:
            renamed[y] = x
        elif _may_rename(graph, x, y):
            renamed[x] = y
        else:
            kept.append(node)
    if not renamed and tuple(kept) == graph.nodes:
        return graph
    return graph.with_nodes(
        replace(
            n,
            inputs=tuple(now(v) for v in n.inputs),
            outputs=tuple(now(v) for v in n.outputs),
        )
        for n in kept
    )


def _join_reshapes(graph: Graph) -> tuple[Node, ...]:
    """A reshape of a reshape reads what the first one read."""
    nodes: list[Node] = []
    source: dict[Value, Value] = {}
    for node in graph.nodes:
        if node.op.name == "reshape":
            x = source.get(node.inputs[0], node.inputs[0])
            source[node.outputs[0]] = x
            nodes.append(replace(node, inputs=(x,)))
        else:
            nodes.append(node)
    return tuple(nodes)


def is_identity(node: Node) -> bool:
    """Whether the output is the first input, element for element in the same order and type."""
    if node.x != node.y:
        return False
    attrs: Any = node.attrs
    match node.op.name:
        case "reshape" | "slice" | "pad" | "resize":
            # same shape in and out; a slice that walks backwards is not the same
            return all(step > 0 for step in getattr(attrs, "steps", ()))
        case "transpose":
            moved = [p for p in attrs.perm if node.x.shape[p] != 1]
            return moved == sorted(moved)
        case "concat" | "split":
            return len(node.inputs) == len(node.outputs) == 1
        case "clip":
            return attrs.low == float("-inf") and attrs.high == float("inf")
        case _:
            return False


def _may_rename(graph: Graph, x: Value, y: Value) -> bool:
    """x is computed here, and is no graph output that must keep its own name."""
    return x in graph.producer and x not in graph.outputs and x.type == y.type


PASS = Pass("eliminate_dead_nodes", run)

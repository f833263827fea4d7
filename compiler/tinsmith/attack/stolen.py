"""What an attacker copies, in parts: the network up to the gateway, behind it, and the gap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import CompileError
from ..ir.graph import Graph, Node, Value
from ..ir.rewrite import live_nodes
from ..train.scheme import logits


@dataclass(frozen=True)
class Stolen:
    """The non-secure graph around its gateway.

    inputs, output: of the gateway (of its first and last call). above: nodes that the inputs need;
    gap: those between the first call and the last; below: all others that the logits need.
    crossing: values from above that the gap or the nodes below read.
    """

    graph: Graph
    inputs: tuple[Value, ...]
    output: Value
    logits: Value
    above: tuple[Node, ...]
    gap: tuple[Node, ...]
    below: tuple[Node, ...]
    crossing: tuple[Value, ...]


def split(graph: Graph) -> Stolen:
    """The parts of a non-secure graph. Raises CompileError for one without a gateway."""
    calls = sorted((n for n in graph.nodes if n.op.name == "authorize"), key=lambda n: n.attrs.call)
    if not calls:
        raise CompileError("the project has no gateway", hint="compile with --trust")
    inputs, output = calls[0].inputs, calls[-1].outputs[0]
    above = live_nodes(graph, inputs)
    target = logits(graph)
    needed = live_nodes(graph, [target])
    locked = [n for n in needed if n not in above]
    gap = _between(calls, locked)
    below = tuple(n for n in locked if n not in gap)
    made = {v for n in above for v in n.outputs} | set(graph.inputs)
    read = (*inputs, *(v for n in (*gap, *below) for v in graph.activations(n)))
    crossing = tuple(dict.fromkeys(v for v in read if v in made))
    return Stolen(graph, inputs, output, target, above, gap, below, crossing)


def _between(calls: Sequence[Node], nodes: Sequence[Node]) -> tuple[Node, ...]:
    """The calls, and what leads from the first one to the last."""
    reached = set(calls[0].outputs)
    found = [calls[0]]
    for node in nodes:
        if node is calls[0] or not reached.intersection(node.inputs) or node in calls[1:]:
            continue
        if len(calls) > 1 and calls[-1].outputs[0] not in node.inputs:
            reached.update(node.outputs)
            found.append(node)
    return (*found, *calls[1:]) if len(calls) > 1 else (calls[0],)

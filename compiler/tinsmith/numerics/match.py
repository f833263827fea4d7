"""Which values of two graphs are the same tensor, by name and else by position.

Names survive import and passes, but fusion and quantisation do not keep all of them: the output of
a convolution with a fused activation has the name that one side gives to the convolution alone. So
a value stands for what its only reader makes of it, as long as that is an activation, a change of
layout or of format.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from ..ir.dtypes import Shape
from ..ir.graph import Graph, Node, Value

_FUSED = ("relu", "clip", "batch_norm", "identity")
_FORMAT = ("quantize", "dequantize", "transpose", "reshape")
_QUANTISED = ".q"  # as insert_qdq names what it adds


@dataclass(frozen=True)
class Pair:
    """The same tensor on both sides. by_name: or by its place in the order of execution."""

    a: Value
    b: Value
    node: Node
    by_name: bool


def match_values(a: Graph, b: Graph) -> list[Pair]:
    """The pairs in the order of b's nodes; a's side read through to its last equivalent value.

    Two graphs of the same nodes pair every value with itself.
    """
    produced = {_base(v.name): v for n in _live(a) for v in n.outputs}
    found: dict[Value, tuple[Value, bool]] = {}
    taken: set[Value] = set()
    for node in _computing(b):
        for value in node.outputs:
            same = produced.get(_base(value.name))
            if same is not None:
                found[value] = (same, True)
                taken.add(same)
    left = [n for n in _computing(a, _FUSED) if not taken.intersection(n.outputs)]
    right = [n for n in _computing(b, _FUSED) if not found.keys() & set(n.outputs)]
    for x, y in _aligned(left, right):
        found[y.outputs[0]] = (x.outputs[0], False)
        taken.add(x.outputs[0])
    readers = _readers(a), _readers(b)
    ends = {v: _last(v, readers[1], set(found) - {v}) for v in found}
    return [
        Pair(_last(found[v][0], readers[0], taken - {found[v][0]}), ends[v], n, found[v][1])
        for n in b.nodes
        for v in n.outputs
        if v in found
    ]


def _base(name: str) -> str:
    return name.removesuffix(_QUANTISED)


def _live(graph: Graph) -> Iterator[Node]:
    """The nodes that depend on the inputs, not on constants alone."""
    live = set(graph.inputs)
    for node in graph.nodes:
        if live.intersection(node.inputs):
            live |= set(node.outputs)
            yield node


def _computing(graph: Graph, but: Sequence[str] = ()) -> Iterator[Node]:
    """Those that do more than change the format."""
    return (n for n in _live(graph) if n.op.name not in (*_FORMAT, *but))


def _readers(graph: Graph) -> Mapping[Value, list[Node]]:
    found: dict[Value, list[Node]] = {}
    for node in graph.nodes:
        for value in node.inputs:
            found.setdefault(value, []).append(node)
    return found


def _last(value: Value, readers: Mapping[Value, list[Node]], stop: set[Value]) -> Value:
    """Follows the only reader while that changes no more than clamp, layout or format."""
    while True:
        nodes = readers.get(value, [])
        if len(nodes) != 1 or nodes[0].op.name not in (*_FUSED, *_FORMAT[:2]):
            return value
        end = nodes[0].outputs[0]
        if end in stop or nodes[0].inputs[0] is not value:
            return value
        value = end


def _aligned(a: Sequence[Node], b: Sequence[Node]) -> Iterator[tuple[Node, Node]]:
    """Nodes of the same operator and size in the same order, the longest such runs first."""
    keys = [[(n.op.name, _size(n.y.shape)) for n in side] for side in (a, b)]
    matcher = SequenceMatcher(None, *keys, autojunk=False)
    for first_a, first_b, length in matcher.get_matching_blocks():
        yield from itertools.islice(zip(a[first_a:], b[first_b:], strict=False), length)


def _size(shape: Shape) -> tuple[int, ...]:
    """The extents whatever their order, so that layouts do not matter."""
    return tuple(sorted(shape))

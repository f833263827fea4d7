"""Which values of two graphs are the same tensor, by name and else by position.

Names survive import and passes, but fusion and quantisation do not keep all of them: the output of
a convolution with a fused activation has the name that one side gives to the convolution alone. So
a value stands for what its only reader makes of it, as long as that is an activation or a change of
format.

A wrong pair is worse than none. Values without a common name are paired by place only between the
same named neighbours, and only where there is one way to do it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

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
    for node in computing(b):
        for value in node.outputs:
            same = produced.get(_base(value.name))
            if same is not None:
                found[value] = (same, True)
                taken.add(same)
    left = [n for n in computing(a, _FUSED) if not taken.intersection(n.outputs)]
    right = [n for n in computing(b, _FUSED) if not found.keys() & set(n.outputs)]
    names = {v: v for v in taken}, {v: same for v, (same, _) in found.items()}
    for x, y in _aligned(_Side(a, left, names[0]), _Side(b, right, names[1])):
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


def computing(graph: Graph, but: Sequence[str] = ()) -> Iterator[Node]:
    """Those that do more than change the format."""
    return (n for n in _live(graph) if n.op.name not in (*_FORMAT, *but))


def _readers(graph: Graph) -> Mapping[Value, list[Node]]:
    found: dict[Value, list[Node]] = {}
    for node in graph.nodes:
        for value in node.inputs:
            found.setdefault(value, []).append(node)
    return found


def _last(value: Value, readers: Mapping[Value, list[Node]], stop: set[Value]) -> Value:
    """Follows the only reader while that changes no more than clamp or format.

    Axes of length 1 may come and go before a clamp: convolutions along one axis have two here.
    """
    end = value
    while True:
        nodes = readers.get(end, [])
        if len(nodes) != 1 or nodes[0].outputs[0] in stop or nodes[0].inputs[0] is not end:
            return value
        end = nodes[0].outputs[0]
        if nodes[0].op.name in (*_FUSED, *_FORMAT[:2]):
            value = end
        elif nodes[0].op.name != "reshape" or not _same_extents(nodes[0]):
            return value


def _same_extents(node: Node) -> bool:
    x, y = ([extent for extent in v.shape if extent != 1] for v in (node.x, node.y))
    return x == y


class _Side:
    """The nodes of a graph to align. named: values that have a pair → what stands for that pair."""

    def __init__(self, graph: Graph, nodes: Sequence[Node], named: Mapping[Value, Value]) -> None:
        self.nodes = nodes
        above: dict[Value, set[Value]] = {}
        for node in _live(graph):
            reached = {v for i in node.inputs if i in above for v in (i, *above[i])}
            above |= dict.fromkeys(node.outputs, reached)
        self._above = above
        below: dict[Value, set[Value]] = {v: set() for v in above}
        for value in named:
            for upper in above.get(value, ()):
                below[upper].add(named[value])
        self.keys: list[Hashable] = [
            (
                node.op.name,
                _size(node.y.shape),
                _filter_size(node, above),
                frozenset(named[v] for v in above[node.outputs[0]] if v in named),
                frozenset(below[node.outputs[0]]),
            )
            for node in nodes
        ]

    def twins(self) -> set[Hashable]:
        """The keys of nodes that could be executed in either order, so that place tells nothing."""
        found: set[Hashable] = set()
        last: dict[Hashable, Value] = {}
        for node, key in zip(self.nodes, self.keys, strict=True):
            if key in last and last[key] not in self._above[node.outputs[0]]:
                found.add(key)
            last[key] = node.outputs[0]
        return found


def _aligned(a: _Side, b: _Side) -> Iterator[tuple[Node, Node]]:
    """Nodes of the same operator, size and named neighbours in the same order: those pairs that
    every longest common sequence of the two sides has."""
    unsure = a.twins() | b.twins()
    rows, columns = ([(n, k) for n, k in zip(s.nodes, s.keys, strict=True) if k not in unsure]
                     for s in (a, b))  # fmt: skip
    keys_a, keys_b = [k for _, k in rows], [k for _, k in columns]
    before = _common(keys_a, keys_b)
    after = _common(keys_a[::-1], keys_b[::-1])
    longest = before[-1][-1]
    possible = [
        (before[i][j], x, y)
        for i, (x, key_x) in enumerate(rows)
        for j, (y, key_y) in enumerate(columns)
        if key_x == key_y
        and before[i][j] + 1 + after[len(rows) - i - 1][len(columns) - j - 1] == longest
    ]
    ways = Counter(rank for rank, _, _ in possible)
    return ((x, y) for rank, x, y in possible if ways[rank] == 1)


def _common(a: Sequence[Hashable], b: Sequence[Hashable]) -> list[list[int]]:
    """[i][j]: the length of the longest common subsequence of a[:i] and b[:j]."""
    table = [[0] * (len(b) + 1)]
    for x in a:
        row = [0]
        for j, y in enumerate(b):
            row.append(table[-1][j] + 1 if x == y else max(table[-1][j + 1], row[-1]))
        table.append(row)
    return table


def _filter_size(node: Node, live: Mapping[Value, object]) -> tuple[int, ...]:
    """Of the weight, for nodes that have one: it tells a 1x1 convolution from a 3x3 one."""
    weight = node.inputs[1] if len(node.inputs) > 1 else None
    if weight is None or weight in live or len(weight.type.shape) < 2:
        return ()
    return _size(weight.type.shape)


def _size(shape: Shape) -> tuple[int, ...]:
    """The extents whatever their order, so that layouts do not matter."""
    return tuple(sorted(shape))

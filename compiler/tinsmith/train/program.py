"""A graph as a flat list of calls: what the simulator runs, without the interpreter's bookkeeping.

Bit-exact with `ir.interpret`, several times faster. Every operator runs its reference, or a
replacement that a caller gives for experiments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..ir.dtypes import Array, DType
from ..ir.graph import Graph, Node, Value
from ..ir.opdef import Absent
from ..ops import _convolution as convolution
from ..quant.arithmetic import requantize, saturate

Reference = Callable[[Node, Sequence[Array]], Sequence[Array]]


@dataclass(frozen=True)
class _Call:
    function: Reference
    node: Node
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


class Program:
    """`nodes` of `graph` bound to slots. `reads`: values to be given; `writes`: values returned."""

    def __init__(
        self,
        graph: Graph,
        nodes: Sequence[Node],
        reads: Sequence[Value],
        writes: Sequence[Value],
        replacements: Mapping[str, Reference],
    ) -> None:
        self.reads, self.writes = tuple(reads), tuple(writes)
        self._slots = {v: i for i, v in enumerate(self.reads)}
        self._start: list[Array | None] = [None] * len(self.reads)
        self._graph = graph
        self._calls = [self._bind(node, replacements) for node in nodes]
        self._out = tuple(self._slot(v) for v in self.writes)

    def run(self, arrays: Iterable[Array]) -> list[Array]:
        """arrays: of `reads`, in order. Returns those of `writes`."""
        slots = self._start.copy()
        for i, array in enumerate(arrays):
            slots[i] = array
        for call in self._calls:
            results = call.function(call.node, [slots[i] for i in call.inputs])  # type: ignore[misc]
            for i, array in zip(call.outputs, results, strict=True):
                slots[i] = array
        return [slots[i] for i in self._out]  # type: ignore[misc]

    def _bind(self, node: Node, replacements: Mapping[str, Reference]) -> _Call:
        inputs = tuple(self._slot(v) for v in node.inputs)
        outputs = tuple(self._slot(v) for v in node.outputs)
        function = replacements.get(node.op.name) or reference_of(node)
        return _Call(function, node, inputs, outputs)

    def _slot(self, value: Value) -> int:
        if value not in self._slots:
            self._slots[value] = len(self._start)
            self._start.append(self._graph.initializers.get(value))
        return self._slots[value]


def reference_of(node: Node) -> Reference:
    """The meaning that `interpret.evaluate` would choose; convolutions in a faster form."""
    if node.op.name == "conv2d" and node.y.dtype is DType.INT8:
        return _conv2d
    integer = any(v.type.dtype is DType.INT8 for v in (*node.outputs, node.inputs[0]))
    rule = node.op.integer
    if integer and not isinstance(rule, Absent) and not isinstance(rule.reference, Absent):
        return rule.reference
    return node.op.reference


def _conv2d(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """The lowered conv2d by taps: the same integers as its reference."""
    x, w, bias, multiplier, shift = arrays
    exact = convolution.exact_float(w[0].size, 128 * 255)
    a = node.attrs
    window = convolution.ConvolutionAttrs(a.strides, a.pads, a.dilations, a.groups)
    centred = x.astype(exact) - exact(node.x.zero_point)
    acc = convolution.correlate(centred, w.astype(exact), window, 0).astype(np.int64) + bias
    return (saturate(requantize(acc, multiplier, shift) + node.y.zero_point, *a.q_clamp),)


def split_frozen(graph: Graph) -> tuple[list[Node], list[Node], list[Value]]:
    """(nodes that depend on the model's inputs only, the others, what these read of the former).

    The last two inputs of a training graph are the label or target, and the learning rate. Channels
    are gathered among the others: so what these read is the same whichever channels learn.
    """
    moving: set[Value] = {*graph.state, *graph.inputs[-2:]}
    frozen: list[Node] = []
    rest: list[Node] = []
    for node in graph.nodes:
        if moving.intersection(node.inputs) or node.op.name == "gather_channels":
            moving.update(node.outputs)
            rest.append(node)
        else:
            frozen.append(node)
    fixed = {v for n in frozen for v in n.outputs}.union(graph.inputs[:-2])
    read = dict.fromkeys(v for n in rest for v in n.inputs if v in fixed)
    read |= dict.fromkeys(v for v in graph.outputs if v in fixed)
    return frozen, rest, list(read)


def needed(nodes: Sequence[Node], roots: Iterable[Value]) -> list[Node]:
    """Those of `nodes` that the roots depend on, in order."""
    wanted, kept = set(roots), list[Node]()
    for node in reversed(nodes):
        if wanted.intersection(node.outputs):
            kept.append(node)
            wanted.update(node.inputs)
    return kept[::-1]

"""Divides a training graph whose gradients cross the bridge between the two worlds.

The training graph is that of the authorised network, in secret order. What the bridge computes, and
what the backward pass does about it, goes to the secure world: in the forward call, which keeps
masks and saved inputs in secure memory, and in a second call, which takes the gradient of the value
in secret order and answers with those of what the bridge reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..errors import InternalError
from ..ir.dtypes import DType, TensorType
from ..ir.graph import Graph, Node, Origin, Stage, Value
from ..ir.rewrite import Rewriter, unique_name
from ..ir.verify import verify
from ..ops import get
from ..ops.authorize import AuthorizeGradientAttrs
from ..ops.pool_gradient import GatherChannelsAttrs
from ..toolchain.gate_view import sealed_bytes
from .partition import Partition
from .worlds import gate_graph, insert_authorization

NAME = "divide_learning"
_MARK = "bridge"  # in the origins of the bridge's nodes, and so of their gradients'
_TAKEN = ("clip_mask", "gather_channels")  # what the backward pass keeps of a value
FORWARD, BACKWARD = 0, 1  # the calls


@dataclass(frozen=True)
class LearningWorlds:
    """nonsecure: TRAINING. forward: its inputs are the bridge's, its outputs the value in secret
    order and then what it keeps. backward: takes the gradient of that value, what was kept, the
    learning rate; gives the gradients of the bridge's inputs, flat, float32[n]; its state is that
    of the bridge. Both have the names of the training graph they came from."""

    nonsecure: Graph
    forward: Graph
    backward: Graph


def authorized_network(base: Graph, parts: Partition) -> tuple[Graph, Value]:
    """The network in secret order, bridge and all, its nodes in the order of `base`; and the value
    that leaves the gateway.

    base: what `parts` was made from, in a mode with one call.
    """
    (secure,) = parts.secure
    (call,) = (n for n in parts.nonsecure.nodes if n.op.name == "authorize")
    asked, answer = call.outputs[0], secure.outputs[0]
    names = {v.name for v in parts.nonsecure.values}
    constants = dict(parts.nonsecure.initializers)
    answered, renamed = {asked: answer}, dict[Value, Value]()
    for value, array in secure.initializers.items():
        known = value.name in names and value not in constants
        new = Value(unique_name(value.name, names), value.type) if known else value
        renamed[value], constants[new] = new, array
    place = {v: i for i, n in enumerate(base.nodes) for v in n.outputs}
    last = max(place.get(v, -1) for n in secure.nodes for v in n.outputs)

    bridge = [
        replace(_reading(n, renamed), origin=n.origin.rewritten_by(_MARK)) for n in secure.nodes
    ]
    others = [_reading(n, answered) for n in parts.nonsecure.nodes if n is not call]
    if last < 0:  # a permutation alone: after what makes the value
        last = place[secure.inputs[0]]
    nodes = sorted((*others, *bridge), key=lambda n: place.get(n.outputs[0], last + 0.5))
    outputs = tuple(answered.get(v, v) for v in parts.nonsecure.outputs)
    graph = replace(parts.nonsecure, stage=Stage.QUANTIZED)
    joined = graph.with_nodes(nodes, initializers=constants, outputs=outputs)
    verify(joined, f"after {NAME}")
    return joined, answer


def divide(training: Graph, locked: Value) -> LearningWorlds:
    """The worlds of the training graph of `authorized_network`, whose gradients cross the bridge.

    locked: the value that leaves the gateway.
    """
    return _Division(training, locked).worlds()


def with_sealed_state(nonsecure: Graph, backward: Graph) -> Graph:
    """The non-secure training graph with a copy of the secure world's state in its own, sealed:
    uint8[n], which no node reads (runtime_c/secure/sealed.h)."""
    size = sealed_bytes(backward)
    name = unique_name("sealed", {v.name for v in nonsecure.values})
    value = Value(name, TensorType((size,), DType.UINT8))
    initializers = {**nonsecure.initializers, value: np.zeros(size, np.uint8)}
    updates = (*nonsecure.updates, (value, value))
    return nonsecure.with_nodes(nonsecure.nodes, initializers=initializers, updates=updates)


class _Division:
    """ahead, back: nodes before the loss, and from it. bridge, steps: of these the secure world's,
    in either call. made: by the bridge; given: what it reads."""

    def __init__(self, training: Graph, locked: Value) -> None:
        self.graph = training
        self.locked = locked
        self.rate = training.inputs[-1]
        nodes = training.nodes
        losses = ("softmax_cross_entropy", "mse_loss")
        start = next(i for i, n in enumerate(nodes) if n.op.name in losses)
        self.ahead, self.back = nodes[:start], nodes[start:]
        marked = {n.name for n in nodes if _MARK in n.origin.passes}
        self.bridge = [n for n in self.ahead if n.name in marked]
        self.steps: list[Node] = []
        for node in self.back:
            if node.name in marked and self._is_secret(node):
                self.steps.append(node)
        self.made = _made(self.bridge)
        self.given = tuple(
            dict.fromkeys(
                v
                for n in self.bridge
                if n.op.name not in _TAKEN
                for v in training.activations(n)
                if v not in self.made
            )
        )
        self.names = {v.name for v in training.values}

    def _is_secret(self, node: Node) -> bool:
        """A sum of gradients of which one comes from elsewhere is none of the bridge's."""
        return node.op.name != "sum_gradients" or set(node.inputs) <= _made(self.steps)

    def worlds(self) -> LearningWorlds:
        forward, kept = self._forward()
        backward, dy, answers = self._backward(kept)
        nonsecure = self._nonsecure(dy, answers)
        for part in (nonsecure, forward, backward):
            verify(part, f"after {NAME}")
        return LearningWorlds(nonsecure, forward, backward)

    def _forward(self) -> tuple[Graph, dict[Value, Value]]:
        """The call of the forward pass, and what it keeps: value that is read later → its name."""
        rewriter = Rewriter(self._part(FORWARD, self.given), NAME)
        rewriter.nodes.extend(map(_unmarked, self.bridge))
        kept: dict[Value, Value] = {}
        own = {*_made(self.steps), self.rate}
        for value in dict.fromkeys(v for n in self.steps for v in self.graph.activations(n)):
            source = self.graph.producer.get(value)
            if value in own or (source in self.back):
                continue
            kept[value] = value if value in self.made else self._copy(value, rewriter)
        outputs = (self.locked, *dict.fromkeys(kept.values()))
        read = {v for n in self.bridge for v in n.inputs}
        states = tuple((old, old) for old, _ in self._updates() if old in read)
        return rewriter.finish(outputs=outputs, updates=states, stage=Stage.TRAINING), kept

    def _copy(self, value: Value, rewriter: Rewriter) -> Value:
        """What the other world has of an input of the bridge, taken from the call's own."""
        source = self.graph.producer.get(value)
        origin = self.bridge[-1].origin
        new = Value(unique_name(f"{value.name}.kept", self.names), value.type)
        if value in self.given:
            every = GatherChannelsAttrs(tuple(range(value.type.shape[-1])))
            op, inputs, attrs = get("gather_channels"), (value,), every
        elif source is not None and source.op.name in _TAKEN and source.inputs[0] in self.given:
            op, inputs, attrs = source.op, source.inputs, source.attrs
        else:
            raise InternalError(f"the bridge's gradient reads %{value.name}, which is elsewhere")
        rewriter.emit(op, inputs, attrs, origin=_plain(origin), outputs=[new])
        return new

    def _backward(self, kept: dict[Value, Value]) -> tuple[Graph, Value, tuple[Value, ...]]:
        """The second call; the gradient that it takes; the gradients that it gives."""
        mine = _made(self.steps)
        read = dict.fromkeys(v for n in self.steps for v in self.graph.activations(n))
        (dy,) = (v for v in read if v not in mine and v not in kept and v != self.rate)
        wanted = {v for n in self.back if n not in self.steps for v in n.inputs}
        answers = tuple(v for n in self.steps for v in n.outputs if v in wanted)
        part = self._part(BACKWARD, (dy, *dict.fromkeys(kept.values()), self.rate))
        rewriter = Rewriter(part, NAME)
        for node in self.steps:
            rewriter.nodes.append(_unmarked(_reading(node, kept)))
        flat = _flattened(rewriter, dy, answers, _plain(self.steps[0].origin))
        graph = rewriter.finish(outputs=(flat,), updates=self._updates(), stage=Stage.TRAINING)
        return graph, dy, answers

    def _nonsecure(self, dy: Value, answers: Sequence[Value]) -> Graph:
        """Asks twice; its own updates come after the second answer, which may be a refusal."""
        graph, rewriter = self.graph, Rewriter(self.graph, NAME)
        secret = {n.name for n in (*self.bridge, *self.steps)}
        others = [n for n in graph.nodes if n.name not in secret]
        needed = {v for n in others for v in n.inputs}
        last = next(i for i, n in enumerate(self.ahead) if self.locked in n.outputs)
        for i, node in enumerate(self.ahead):
            if i == last:
                insert_authorization(
                    rewriter, FORWARD, self.given, self.locked, _plain(node.origin)
                )
            elif node.name not in secret:
                rewriter.nodes.append(node)
            elif node.op.name in _TAKEN and needed.intersection(node.outputs):
                rewriter.nodes.append(_unmarked(node))
        deferred: list[Node] = []
        asked = False
        for node in self.back:
            if node.name in secret:
                if not asked:
                    self._ask(rewriter, dy, answers)
                    rewriter.nodes.extend(deferred)
                asked = True
            elif node.updates and not asked:
                deferred.append(node)
            else:
                rewriter.nodes.append(node)
        return rewriter.finish(updates=self._updates(secret=False))

    def _ask(self, rewriter: Rewriter, dy: Value, answers: Sequence[Value]) -> None:
        """The second call, and the gradients taken apart."""
        rate = [self.rate] if any(self.rate in n.inputs for n in self.steps) else []
        states = [old for old, _ in self._updates(secret=False)]
        size = sum(v.type.elements for v in answers) or 1
        attrs = AuthorizeGradientAttrs(BACKWARD, 1 + len(rate), size)
        origin = _plain(self.steps[0].origin)
        op, name = get("authorize_gradient"), f"{dy.name}.answer"
        (flat,) = rewriter.emit(op, [dy, *rate, *states], attrs, origin=origin, name=name)
        start, reshape, cut = 0, get("reshape"), get("slice")
        for value in answers:
            part, count = flat, value.type.elements
            if count < size:
                window = cut.attrs((0,), (start,), (count,), (1,))
                (part,) = rewriter.emit(
                    cut, [flat], window, origin=origin, name=f"{value.name}.part"
                )
            shape = reshape.attrs(value.type.shape)
            rewriter.emit(reshape, [part], shape, origin=origin, outputs=[value])
            start += count

    def _updates(self, *, secret: bool = True) -> tuple[tuple[Value, Value], ...]:
        """Of the states of one world."""
        made = _made(self.steps)
        return tuple((a, b) for a, b in self.graph.updates if (b in made) == secret)

    def _part(self, call: int, inputs: Sequence[Value]) -> Graph:
        part = gate_graph(self.graph, call, inputs)
        return replace(part, initializers=self.graph.initializers)


def _flattened(rewriter: Rewriter, dy: Value, answers: Sequence[Value], origin: Origin) -> Value:
    """All answers in a row; where there are none, what the caller knows: its first number."""
    reshape, concat, cut = get("reshape"), get("concat"), get("slice")
    rows: list[Value] = []
    for value in answers or (dy,):
        shape = reshape.attrs((value.type.elements,))
        rows += rewriter.emit(reshape, [value], shape, origin=origin, name=f"{value.name}.row")
    if not answers:
        first = cut.attrs((0,), (0,), (1,), (1,))
        return rewriter.emit(cut, rows, first, origin=origin, name="answer")[0]
    if len(rows) == 1:
        return rows[0]
    return rewriter.emit(concat, rows, concat.attrs(0), origin=origin, name="answer")[0]


def _reading(node: Node, renamed: Mapping[Value, Value]) -> Node:
    return replace(node, inputs=tuple(renamed.get(v, v) for v in node.inputs))


def _made(nodes: Iterable[Node]) -> set[Value]:
    return {v for n in nodes for v in n.outputs}


def _plain(origin: Origin) -> Origin:
    return replace(origin, passes=tuple(p for p in origin.passes if p != _MARK))


def _unmarked(node: Node) -> Node:
    return replace(node, origin=_plain(node.origin))

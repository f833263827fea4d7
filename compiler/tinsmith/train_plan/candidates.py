"""What a search chooses from: how many last biases, and of which layers which share of weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import msgspec

from ..ir.graph import Graph, Node
from ..train.scheme import Scheme, Update, classifier, layers

FRACTIONS = (0.125, 0.25, 0.5, 1.0)


@dataclass(frozen=True, order=True)
class Candidate:
    """biases: of so many last layers. weights: (index of the layer, fraction), ascending."""

    biases: int = 0
    weights: tuple[tuple[int, float], ...] = ()

    def scheme(self, base: Scheme) -> Scheme:
        """`base` with these updates in place of its own."""
        updates = [Update(last=self.biases, bias=True)] if self.biases else []
        updates += [Update(index=i, weights=r) for i, r in self.weights]
        return msgspec.structs.replace(base, update=tuple(updates))

    def includes(self, other: Candidate) -> bool:
        """Whether all that `other` trains is trained here."""
        mine = dict(self.weights)
        return self.biases >= other.biases and all(mine.get(i, 0) >= r for i, r in other.weights)

    def __str__(self) -> str:
        parts = [f"biases of the last {self.biases}"] if self.biases else []
        parts += [f"{i}: {r:g}" for i, r in self.weights]
        return ", ".join(parts) or "the classifier only"


@dataclass(frozen=True)
class Depth:
    """Biases of the last `biases` layers. room: bytes left beside what they cost."""

    biases: int
    gain: float
    room: int


@dataclass(frozen=True)
class Choice:
    """A share of a layer's weights. bytes: of state, without the layer's bias."""

    fraction: float
    gain: float
    bytes: int


@dataclass(frozen=True)
class Layer:
    """position: 1 for the last layer before the classifier. bias_bytes: the bias is state as soon
    as the weights learn, since the input's zero point is folded into it."""

    index: int
    position: int
    bias_bytes: int
    choices: tuple[Choice, ...]

    def bytes(self, choice: Choice, biases: int) -> int:
        return choice.bytes + (self.bias_bytes if self.position > biases else 0)


@dataclass(frozen=True)
class Problem:
    """Gains are taken to add up. depths: with 0 among them. layers: from the last to the first."""

    depths: tuple[Depth, ...]
    layers: tuple[Layer, ...]

    @cached_property
    def _gains(self) -> dict[tuple[int, float], float]:
        return {(a.index, c.fraction): c.gain for a in self.layers for c in a.choices}

    @cached_property
    def _depths(self) -> dict[int, Depth]:
        return {d.biases: d for d in self.depths}

    def gain(self, candidate: Candidate) -> float:
        """Predicted: the sum of what the parts gave alone."""
        return self._depths[candidate.biases].gain + sum(self._gains[w] for w in candidate.weights)

    def left(self, candidate: Candidate) -> int:
        """Bytes left by the state alone; the plan may leave fewer."""
        chosen = dict(candidate.weights)
        depth = self._depths[candidate.biases]
        used = (
            layer.bytes(choice, candidate.biases)
            for layer in self.layers
            for choice in layer.choices
            if chosen.get(layer.index) == choice.fraction
        )
        return depth.room - sum(used)


@dataclass(frozen=True)
class Trainable:
    """A layer of the network before its classifier. fractions: those that differ in channels."""

    index: int
    position: int
    fractions: tuple[float, ...]


def trainable_layers(quantized: Graph) -> list[Trainable]:
    """From the last layer before the classifier to the first. Raises SchemeError without one."""
    found = layers(quantized)
    head = classifier(quantized)
    body = [(i, n) for i, n in enumerate(found) if n is not head]
    count = len(body)
    return [Trainable(i, count - k, _fractions(n)) for k, (i, n) in reversed(list(enumerate(body)))]


def _fractions(node: Node) -> tuple[float, ...]:
    filters = node.inputs[1].type.shape
    groups = getattr(node.attrs, "groups", 1)
    if groups > 1 and groups != filters[0]:
        return (1.0,)  # select_updates trains a grouped layer whole
    channels = groups if groups > 1 else filters[-1]
    return _distinct(channels, FRACTIONS)


def _distinct(channels: int, fractions: Sequence[float]) -> tuple[float, ...]:
    by_count = {int(channels * r): r for r in reversed(fractions)}
    return tuple(sorted(r for count, r in by_count.items() if count))

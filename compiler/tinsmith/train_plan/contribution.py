"""What each trainable tensor is worth: the accuracy it gains alone, over the classifier alone.

Measured by short fine-tunes off the device, as in "On-Device Training Under 256KB Memory", section
3.2: the biases of the last n layers, and of each layer shares of its weights. A tensor that does
not fit the budget even alone is not measured. Gains of less than nothing are noise and count as 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from msgspec.structs import replace

from ..ir.dtypes import Array
from ..train.scheme import Scheme, Update
from .candidates import Candidate, Choice, Depth, Layer, Problem, Trainable, trainable_layers
from .costs import Planner

DEPTHS = 12  # how many numbers of biases are tried at most
Measure = Callable[[Mapping[Candidate, Scheme]], Mapping[Candidate, "Measured"]]


@dataclass(frozen=True)
class Measured:
    """accuracy: a fraction. correct: 1.0 or 0.0 per held-out sample."""

    accuracy: float
    correct: Array
    gave_up: bool = False

    def gain_over(self, other: Measured) -> tuple[float, float]:
        """(difference of the accuracies, its standard error over the held-out samples)."""
        difference = self.correct - other.correct
        return float(difference.mean()), float(difference.std() / math.sqrt(difference.size))


@dataclass(frozen=True)
class Contribution:
    """part: a candidate of one tensor. bytes: of state beside the classifier's."""

    part: Candidate
    gain: float
    error: float
    bytes: int


@dataclass(frozen=True)
class Parts:
    """What is worth measuring within the budget. depths: numbers of biases, ascending."""

    depths: tuple[int, ...]
    layers: tuple[Trainable, ...]

    def candidates(self) -> list[Candidate]:
        """One per tensor, the earliest layer first: a worker encodes on from the one before."""
        layers = reversed(self.layers)
        weights = [Candidate(0, ((a.index, r),)) for a in layers for r in a.fractions]
        return [*(Candidate(n) for n in reversed(self.depths)), *weights]


def affordable(planner: Planner, base: Scheme) -> Parts:
    """Raises CompileError when the model cannot be planned. The deeper, the dearer, is assumed."""
    every = trainable_layers(planner.quantized)

    def fits(candidate: Candidate) -> bool:
        return planner.admits(candidate.scheme(base))

    deepest = last_true(len(every), lambda n: fits(Candidate(n)))
    reach = last_true(
        len(every), lambda n: fits(Candidate(0, ((every[n - 1].index, every[n - 1].fractions[0]),)))
    )
    head = planner.cost(base).ram_bytes
    room = planner.budget.ram_bytes - head + planner.state_bytes(base)
    layers: list[Trainable] = []
    for layer in every[:reach]:
        shares = (Candidate(0, ((layer.index, r),)) for r in layer.fractions)
        kept = [p.weights[0][1] for p in shares if planner.state_bytes(p.scheme(base)) <= room]
        if kept:
            layers.append(Trainable(layer.index, layer.position, tuple(kept)))
    steps = np.linspace(1, deepest, min(DEPTHS, deepest)).round().astype(int) if deepest else []
    return Parts(tuple(dict.fromkeys(int(n) for n in steps)), tuple(layers))


def last_true(count: int, holds: Callable[[int], bool]) -> int:
    """The largest n in 1 … count with holds(n), 0 without one, by bisection."""
    low, high = 0, count
    while low < high:
        middle = (low + high + 1) // 2
        if holds(middle):
            low = middle
        else:
            high = middle - 1
    return low


@dataclass(frozen=True)
class Analysis:
    """contributions: in the order they were measured. head: of the classifier alone."""

    contributions: tuple[Contribution, ...]
    head: Measured
    problem: Problem


def analyse(planner: Planner, base: Scheme, parts: Parts, measure: Measure) -> Analysis:
    """measure: fine-tunes schemes. Makes the search's problem of the results."""
    schemes = {c: c.scheme(base) for c in (*parts.candidates(), Candidate())}
    measured = measure(schemes)
    head = measured[Candidate()]
    state = {c: planner.state_bytes(s) for c, s in schemes.items()}
    found = tuple(
        Contribution(c, *measured[c].gain_over(head), state[c] - state[Candidate()])
        for c in parts.candidates()
    )
    return Analysis(found, head, problem_of(planner, base, parts, found))


def problem_of(
    planner: Planner, base: Scheme, parts: Parts, contributions: Sequence[Contribution]
) -> Problem:
    """Tensors that gained nothing are left out."""
    by_part = {c.part: c for c in contributions}
    depths = [Depth(0, 0.0, _room(planner, Candidate(), base))]
    for n in parts.depths:
        gain = by_part[Candidate(n)].gain
        if gain > 0:
            depths.append(Depth(n, gain, _room(planner, Candidate(n), base)))
    nothing = planner.state_bytes(base)
    layers: list[Layer] = []
    for layer in parts.layers:
        biased = replace(base, update=(Update(index=layer.index, bias=True),))
        bias = planner.state_bytes(biased) - nothing
        shares = [by_part[Candidate(0, ((layer.index, r),))] for r in layer.fractions]
        choices = [
            Choice(c.part.weights[0][1], c.gain, c.bytes - bias) for c in shares if c.gain > 0
        ]
        if choices:
            layers.append(Layer(layer.index, layer.position, bias, tuple(choices)))
    return Problem(tuple(depths), tuple(layers))


def _room(planner: Planner, candidate: Candidate, base: Scheme) -> int:
    return planner.budget.ram_bytes - planner.least_bytes(candidate.scheme(base))

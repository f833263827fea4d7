"""The scheme with the largest sum of contributions that the planner admits.

Exact: best-first over the layers. What the remaining layers can add at most, within the bytes that
the state leaves, comes from a knapsack over them, so complete candidates appear in the order of
their gain, and the first that the planner admits is the best one. That rests on one rule: training
more never takes fewer bytes or instructions. A candidate that is refused is reduced to the fewest
parts that are refused too, and whatever includes those is dropped. When the planner has been asked
too often, an evolutionary search goes on from the best that is known.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..ir.dtypes import Array
from .candidates import Candidate, Depth, Layer, Problem

Fits = Callable[[Candidate], bool]
UNIT = 32  # bytes; the knapsack counts whole ones, never too many
CONFIRMATIONS = 100  # questions to the planner
STATES = 200_000  # of the best-first search
_PARENTS = 8


@dataclass
class Found:
    """best: what won. proved: nothing that fits has a larger sum. refused: parts that never fit."""

    best: Candidate
    gain: float
    proved: bool
    refused: list[Candidate] = field(default_factory=list[Candidate])


def search(
    problem: Problem,
    fits: Fits,
    *,
    confirmations: int = CONFIRMATIONS,
    refused: Sequence[Candidate] = (),
    seed: int = 0,
    evolve: bool = True,
) -> Found:
    """fits: asks the planner. refused: what is known not to fit. evolve: go on by mutations when
    the exact search has asked too often, else with the best that was admitted. Deterministic.

    The classifier alone always is an answer, also when it does not fit.
    """
    asked = _Asked(fits, confirmations, list(refused))
    best = _exact(problem, asked)
    if best is not None:
        return Found(best, problem.gain(best), True, asked.refused)
    if evolve:
        best = _evolve(problem, asked, seed)
    else:
        best = max((Candidate(), *asked.admitted), key=problem.gain)
    return Found(best, problem.gain(best), False, asked.refused)


class _Asked:
    """Questions to the planner: remembered, counted, and answered without it where that follows."""

    def __init__(self, fits: Fits, limit: int, refused: list[Candidate]) -> None:
        self.fits, self.limit, self.refused = fits, limit, refused
        self.count = 0
        self.admitted: list[Candidate] = []

    @property
    def exhausted(self) -> bool:
        return self.count >= self.limit

    def hopeless(self, candidate: Candidate) -> bool:
        return any(candidate.includes(r) for r in self.refused)

    def admits(self, candidate: Candidate) -> bool:
        if any(a.includes(candidate) for a in self.admitted):
            return True
        if self.hopeless(candidate):
            return False
        self.count += 1
        if self.fits(candidate):
            self.admitted.append(candidate)
            return True
        self.refused.append(candidate)
        return False

    def reduce(self, candidate: Candidate) -> None:
        """Leave parts out of a refused candidate while it stays refused."""
        for part in candidate.weights:
            if self.exhausted:
                return
            fewer = Candidate(candidate.biases, tuple(w for w in candidate.weights if w != part))
            if not self.admits(fewer):
                candidate = fewer


def _exact(problem: Problem, asked: _Asked) -> Candidate | None:
    """None: the planner was asked too often, or there were too many states."""
    count = itertools.count()
    bounds = {d.biases: _bounds(problem.layers, d) for d in problem.depths if d.room >= 0}
    heap: list[tuple[float, int, Candidate, int, int]] = []
    for depth in problem.depths:
        if depth.room >= 0:
            bound = depth.gain + bounds[depth.biases][0][depth.room // UNIT]
            heap.append((-bound, next(count), Candidate(depth.biases), 0, depth.room))
    heapq.heapify(heap)
    while heap and next(count) < STATES:
        _, _, candidate, k, room = heapq.heappop(heap)
        if asked.hopeless(candidate):
            continue
        if k == len(problem.layers):
            if asked.admits(candidate):
                return candidate
            asked.reduce(candidate)
            if asked.exhausted:
                return None
            continue
        gain = problem.gain(candidate)
        for option, taken, added in _options(problem.layers[k], candidate):
            if taken <= room:
                bound = gain + added + bounds[candidate.biases][k + 1][(room - taken) // UNIT]
                heapq.heappush(heap, (-bound, next(count), option, k + 1, room - taken))
    return None if heap else Candidate()


def _options(layer: Layer, candidate: Candidate) -> Iterator[tuple[Candidate, int, float]]:
    """(candidate, bytes, gain) without the layer and with each share of it."""
    yield candidate, 0, 0.0
    for choice in layer.choices:
        weights = tuple(sorted((*candidate.weights, (layer.index, choice.fraction))))
        taken = layer.bytes(choice, candidate.biases)
        yield Candidate(candidate.biases, weights), taken, choice.gain


def _bounds(layers: Sequence[Layer], depth: Depth) -> list[Array]:
    """Per k: the most that the layers from k on can add, by units of bytes left."""
    size = depth.room // UNIT + 1
    table = [np.zeros(size)]
    for layer in reversed(layers):
        best = table[0].copy()
        for choice in layer.choices:
            units = layer.bytes(choice, depth.biases) // UNIT
            if units < size:
                with_it = table[0][: size - units] + choice.gain
                best[units:] = np.maximum(best[units:], with_it)
        table.insert(0, best)
    return table


def _evolve(problem: Problem, asked: _Asked, seed: int) -> Candidate:
    """Mutations of the best that is known; the planner is asked as often again."""
    rng = random.Random(seed)
    asked.limit += asked.limit
    parents = sorted((Candidate(), *asked.admitted), key=problem.gain)[-_PARENTS:]
    seen = set(parents)
    for _ in range(100 * asked.limit):
        if asked.exhausted:
            break
        child = _mutated(problem, rng.choice(parents), rng)
        worth = problem.gain(child) > problem.gain(parents[0])
        if child in seen or problem.left(child) < 0 or not worth:
            continue
        seen.add(child)
        if asked.admits(child):
            parents = sorted((*parents, child), key=problem.gain)[-_PARENTS:]
    return parents[-1]


def _mutated(problem: Problem, parent: Candidate, rng: random.Random) -> Candidate:
    """Another depth, or one or two layers with another share, or none."""
    if rng.random() < 0.2 or not problem.layers:
        return Candidate(rng.choice(problem.depths).biases, parent.weights)
    weights = dict(parent.weights)
    for layer in rng.sample(problem.layers, min(rng.choice((1, 2)), len(problem.layers))):
        weights.pop(layer.index, None)
        if rng.random() < 0.7:
            weights[layer.index] = rng.choice(layer.choices).fraction
    return Candidate(parent.biases, tuple(sorted(weights.items())))

"""The search itself, on made-up problems: against trying everything, and when it gives up."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest

from tinsmith.train_plan.candidates import Candidate, Choice, Depth, Layer, Problem
from tinsmith.train_plan.contribution import last_true
from tinsmith.train_plan.costs import Cost
from tinsmith.train_plan.pareto import Point, front
from tinsmith.train_plan.search import search


def random_problem(seed: int) -> tuple[Problem, dict[int, int], int]:
    """(problem, bytes that every layer's crossing adds to the arena, the arena's floor)."""
    rng = np.random.default_rng(seed)
    layers = []
    for position in range(1, int(rng.integers(2, 5)) + 1):
        fractions = sorted(rng.choice([0.125, 0.25, 0.5, 1.0], int(rng.integers(1, 4)), False))
        choices = [
            Choice(float(r), float(rng.uniform(0.001, 0.1)), int(2000 * r * rng.uniform(0.5, 1)))
            for r in fractions
        ]
        layers.append(Layer(10 - position, position, int(rng.integers(4, 200)), tuple(choices)))
    arena = {a.index: int(rng.integers(0, 3000)) for a in layers}
    budget = int(rng.integers(3000, 9000))
    depths = tuple(
        Depth(n, 0.0 if not n else float(rng.uniform(0, 0.1)), budget - 2000 - 300 * n)
        for n in range(len(layers) + 1)
    )
    return Problem(depths, tuple(layers)), arena, budget


def bytes_of(problem: Problem, arena: dict[int, int], budget: int, candidate: Candidate) -> int:
    """State adds up; of the arena the largest part counts, as it does in a plan."""
    peak = max([2000, *(2000 + arena[i] for i, _ in candidate.weights)])
    return budget - problem.left(candidate) - 2000 + peak


def every_candidate(problem: Problem) -> Iterator[Candidate]:
    options = [[None, *a.choices] for a in problem.layers]
    for depth in problem.depths:
        for picked in itertools.product(*options):
            pairs = zip(problem.layers, picked, strict=True)
            weights = sorted((a.index, c.fraction) for a, c in pairs if c is not None)
            yield Candidate(depth.biases, tuple(weights))


@pytest.mark.parametrize("seed", range(40))
def test_the_search_finds_what_trying_everything_finds(seed: int) -> None:
    problem, arena, budget = random_problem(seed)
    asked = []

    def fits(candidate: Candidate) -> bool:
        asked.append(candidate)
        return bytes_of(problem, arena, budget, candidate) <= budget

    found = search(problem, fits)
    everything = list(every_candidate(problem))
    possible = [c for c in everything if bytes_of(problem, arena, budget, c) <= budget]
    assert found.proved
    assert found.best in possible
    assert found.gain == pytest.approx(max(problem.gain(c) for c in possible))
    assert len(asked) == len(set(asked)) < max(8, len(everything))
    for refused in found.refused:
        assert not bytes_of(problem, arena, budget, refused) <= budget


@pytest.mark.parametrize("seed", range(10))
def test_evolution_takes_over_when_the_planner_is_asked_too_often(seed: int) -> None:
    problem, arena, budget = random_problem(seed)
    hard = {i: 3000 + b for i, b in arena.items()}

    def fits(candidate: Candidate) -> bool:
        return bytes_of(problem, hard, budget, candidate) <= budget

    exact = search(problem, fits)
    found = search(problem, fits, confirmations=1)
    assert found.gain <= exact.gain + 1e-12
    assert fits(found.best)
    assert found.best == search(problem, fits, confirmations=1).best


def test_nothing_fits() -> None:
    problem, _, _ = random_problem(0)
    found = search(problem, lambda c: False)
    assert found.best == Candidate()
    assert found.gain == 0


def test_including() -> None:
    small, large = Candidate(2, ((7, 0.25),)), Candidate(3, ((5, 1.0), (7, 0.5)))
    assert large.includes(small)
    assert not small.includes(large)
    assert not Candidate(3, ((7, 0.125),)).includes(small)
    assert not Candidate(1, ((7, 1.0),)).includes(small)


def test_bisection() -> None:
    assert [last_true(5, lambda n, k=k: n <= k) for k in range(6)] == list(range(6))


def test_the_front_keeps_what_is_best_in_something() -> None:
    def point(ram: int, steps: int, gain: float) -> Point:
        return Point(Candidate(ram), Cost(ram, 0, 0, steps), gain)

    cheap, good, quick = point(10, 9, 0.1), point(20, 9, 0.3), point(20, 5, 0.2)
    worse = [point(20, 9, 0.2), point(15, 9, 0.1), point(30, 5, 0.2)]
    assert front([*worse, quick, good, cheap]) == [cheap, quick, good]

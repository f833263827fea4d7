"""What every scheme is compared with: simple choices that need no analysis."""

from __future__ import annotations

import random
from collections.abc import Callable

from ..train.scheme import Scheme
from .candidates import Candidate, trainable_layers
from .contribution import Parts, last_true
from .costs import Planner

HEAD, BIASES, LAST, RANDOM, FULL = (
    "classifier only", "biases only", "last layers", "random half", "full update",
)  # fmt: skip
UNTRAINED, MEANS = "untrained", "nearest class mean"  # no scheme


def baselines(planner: Planner, base: Scheme, parts: Parts, seed: int) -> dict[str, Candidate]:
    """By name. The first four fit the budget, as far as anything of their kind does."""
    every = trainable_layers(planner.quantized)

    def fits(candidate: Candidate) -> bool:
        return planner.admits(candidate.scheme(base))

    def last(count: int) -> Candidate:
        return Candidate(count, tuple(sorted((a.index, 1.0) for a in every[:count])))

    reach = max((layer.position for layer in parts.layers), default=0)
    return {
        HEAD: Candidate(),
        BIASES: Candidate(max(parts.depths, default=0)),
        LAST: last(max(1, last_true(reach, lambda n: fits(last(n))))),
        RANDOM: random_half(parts, fits, seed),
        FULL: last(len(every)),
    }


def random_half(parts: Parts, fits: Callable[[Candidate], bool], seed: int) -> Candidate:
    """Half of the layers, drawn at random, each with half of its channels and all their biases;
    parts are dropped at random until it fits."""
    rng = random.Random(seed)
    drawn = rng.sample(parts.layers, len(parts.layers) // 2)
    weights = [(a.index, max((r for r in a.fractions if r <= 0.5), default=1.0)) for a in drawn]
    biases = max((a.position for a in drawn), default=0)
    candidate = Candidate(biases, tuple(sorted(weights)))
    while weights and not fits(candidate):
        weights.pop(rng.randrange(len(weights)))
        positions = {a.index: a.position for a in drawn}
        biases = max((positions[i] for i, _ in weights), default=0)
        candidate = Candidate(biases, tuple(sorted(weights)))
    return candidate

"""All attacks on one protected network, over several seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..ir.dtypes import Array
from ..ir.graph import Graph, Node
from ..quant.batch import run_many
from .gaps import make_gap, project
from .imitation import WEIGHTED, Parameters, weight_name
from .lab import Lab, Samples, gateway_graph
from .observe import clone, correlated_order
from .stolen import split
from .torch_extra import Tensor, load_torch

FRACTIONS = (0.01, 0.1, 1.0)
QUERIES = (1, 4, 16, 64, 256)
_SMALL = 0.1
FINE_TUNE_RATE, STITCH_RATE, SCRATCH_RATE = 1e-3, 2e-3, 2e-3


@dataclass(frozen=True)
class Outcome:
    """One attack with one budget.

    samples: labels, or queries of the gateway. accuracy: of the attacker's network on the samples
    that judge; one per seed. orders: share of the secret order that was found, where there is one.
    """

    attack: str
    budget: str
    samples: int
    accuracy: tuple[float, ...]
    orders: tuple[float, ...] = ()

    @property
    def mean(self) -> float:
        return float(np.mean(self.accuracy))

    @property
    def spread(self) -> float:
        """Sample standard deviation; 0 of a single seed."""
        return float(np.std(self.accuracy, ddof=1)) if len(self.accuracy) > 1 else 0.0


@dataclass(frozen=True)
class Report:
    """What all attacks reached."""

    model: str
    mode: str
    seeds: int
    steps: int
    train_samples: int
    test_samples: int
    classes: int
    victim: float
    outcomes: tuple[Outcome, ...]

    @property
    def chance(self) -> float:
        return 1 / self.classes


@dataclass(frozen=True)
class Budget:
    """How hard to try. steps: of 64 samples, of every training. scratch: whether to train the
    architecture anew, which takes longest."""

    seeds: int = 3
    steps: int = 300
    fractions: Sequence[float] = FRACTIONS
    queries: Sequence[int] = QUERIES
    scratch: bool = True


@dataclass
class _Row:
    samples: int
    accuracy: list[float] = field(default_factory=list[float])
    orders: list[float] = field(default_factory=list[float])


Found = tuple[str, str, int, float, float | None]  # attack, budget, samples, accuracy, order


def attack_network(
    plain: Graph,
    nonsecure: Graph,
    secure: list[Graph],
    joined: Graph,
    train: Samples,
    test: Samples,
    *,
    mode: str,
    budget: Budget,
    progress: Callable[[str], None] = lambda text: None,
) -> Report:
    """Run the suite.

    plain: the oracle. joined: the authorised network, for what the gateway answers to a caller.
    Raises MissingTool without torch, CompileError for operators that cannot be imitated.
    """
    load_torch()
    stolen = split(nonsecure)
    progress("what lies above the gateway")
    lab = Lab(stolen, make_gap(stolen, secure), train, test)
    rows: dict[tuple[str, str], _Row] = {}
    for seed in range(budget.seeds):
        for attack, budgeted, samples, accuracy, order in _attacks(
            lab, secure, gateway_graph(joined, stolen), budget, seed, progress
        ):
            row = rows.setdefault((attack, budgeted), _Row(samples))
            row.accuracy.append(accuracy)
            row.orders += [] if order is None else [order]
    outputs = run_many(plain, list(test.rows))[0].reshape(len(test), -1)
    outcomes = tuple(
        Outcome(name, budgeted, row.samples, tuple(row.accuracy), tuple(row.orders))
        for (name, budgeted), row in rows.items()
    )
    return Report(
        plain.name, mode, budget.seeds, budget.steps, len(train), len(test), outputs.shape[1],
        float(np.mean(outputs.argmax(1) == test.labels)), outcomes,
    )  # fmt: skip


def _attacks(
    lab: Lab,
    secure: list[Graph],
    gateway: Graph,
    budget: Budget,
    seed: int,
    progress: Callable[[str], None],
) -> Iterator[Found]:
    """All attacks of one seed. The seed draws the labelled samples, too."""
    shuffled = np.random.default_rng(seed).permutation(len(lab.train))
    standins = lab.gap.standins(seed, lab.sample())
    guesses = {n: {**lab.locked, **p} for n, p in standins.items()}
    scores = {n: lab.accuracy(p) for n, p in guesses.items()}
    for name, accuracy in scores.items():
        yield "unauthorised", name, 0, accuracy, None
    first = next(iter(guesses.values()))
    for fraction in budget.fractions:
        labelled = shuffled[: max(1, round(fraction * len(shuffled)))]
        text = f"{fraction:.0%} of labels"
        common = (text, len(labelled))
        progress(f"seed {seed}, {text}")
        tuned = lab.fit(
            first, list(first), labelled, steps=budget.steps, rate=FINE_TUNE_RATE, seed=seed
        )
        yield "fine-tune", *common, lab.accuracy(tuned), None
        yield from _stitch(lab, first, next(iter(standins.values())), labelled, budget, seed, text)
        if budget.scratch:
            yield "from scratch", *common, from_scratch(lab, labelled, budget.steps, seed), None
    for queries in budget.queries:
        if queries > len(lab.train):
            continue
        progress(f"seed {seed}, {queries} queries")
        text = f"{queries} queries"
        share = correlated_order(lab, secure, queries, seed)
        copied = clone(lab, gateway, queries, seed)
        if copied is not None:
            accuracy = lab.accuracy({**first, **copied})
            yield "caller: correlate, clone", text, queries, accuracy, share


def _stitch(
    lab: Lab,
    first: Parameters,
    gap: Parameters,
    labelled: Array,
    budget: Budget,
    seed: int,
    text: str,
) -> Iterator[Found]:
    """Train what stands in the gap alone; round orders to permutations; train on with those."""
    orders = [n for n in gap if n in lab.gap.orders]
    weights = [n for n in gap if n not in orders]
    trained = lab.fit(
        first, weights, labelled, steps=budget.steps, rate=STITCH_RATE, seed=seed, orders=orders
    )
    found, right = project(lab.gap, trained)
    if weights and orders:
        found = lab.fit(
            found, weights, labelled, steps=budget.steps // 2, rate=STITCH_RATE / 2, seed=seed
        )
    shares = [r for r in right.values() if r is not None]
    order = float(np.mean(shares)) if shares else None
    yield "stitch, project", text, len(labelled), lab.accuracy(found), order
    tuned = lab.fit(
        found, [n for n in first if n not in orders], labelled,
        steps=budget.steps // 2, rate=FINE_TUNE_RATE / 3, seed=seed,
    )  # fmt: skip
    yield "stitch, then fine-tune", text, len(labelled), lab.accuracy(tuned), None


def from_scratch(lab: Lab, labelled: Array, steps: int, seed: int) -> float:
    """The whole architecture from random weights: what the labels are worth alone."""
    torch = load_torch()
    generator = torch.Generator().manual_seed(seed)
    guess = next(iter(lab.gap.standins(seed, lab.sample()).values()))
    start = {
        name: _random(old, generator)
        for name, old in (lab.locked | lab.open | guess).items()
        if not name.startswith("gap/")
    }
    last = next(n for n in reversed(stolen_layers(lab)) if weight_name(n) in start)
    start[weight_name(last)] *= _SMALL  # else the first logits lie at the clamp, without a slope
    trained = lab.fit(
        guess | start, list(start), labelled, steps=steps, rate=SCRATCH_RATE, seed=seed,
        logits=lab.whole_logits,
    )  # fmt: skip
    return lab.accuracy(trained, lab.whole_logits)


def stolen_layers(lab: Lab) -> list[Node]:
    """The nodes with weights, in order."""
    nodes = (*lab.stolen.above, *lab.stolen.below)
    return [n for n in nodes if n.op.name in WEIGHTED]


def _random(old: Tensor, generator: Any) -> Tensor:
    """Weights that keep the spread of what they sum; biases of zero."""
    torch, shape = load_torch(), tuple(old.shape)
    if len(shape) < 2:
        return torch.zeros(shape)
    return torch.randn(shape, generator=generator) * float(np.sqrt(1 / np.prod(shape[1:])))

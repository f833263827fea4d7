"""Find what of a model should learn on a board: measure, search, measure what was found."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from ..codegen.training import inference_graph
from ..errors import CompileError, DoesNotFit
from ..frontend.model_file import ModelSource
from ..ir.graph import Graph, Stage
from ..ir.printer import print_graph
from ..kernels.aim import Aim, Objective
from ..lowering import TO_TRAINING, canonical, with_scales
from ..machine.board import load_board
from ..pass_manager import PassContext, run_passes
from ..quant.samples import Samples
from ..train.labelled import read_classes
from ..train.scheme import Rule, Scheme
from . import baselines as named
from .candidates import Candidate, Problem
from .contribution import Analysis, Measured, affordable, analyse
from .costs import Budget, Cost, Planner, budget_of
from .executor import ResultFile, Submit, run_jobs, workers
from .fine_tune import Bench, Job, run_job, training_graph
from .pareto import Point, front
from .samples import split
from .search import Found, search

RESULTS = "fine_tunes.jsonl"
_FRESH = "give the model a fresh classifier with --classes N"
_BEFORE_TRAINING = tuple(p for p in TO_TRAINING if p.requires < Stage.QUANTIZED)
_Name = TypeVar("_Name")
RATES = (0.0004, 0.00125, 0.004, 0.0125)
_LADDER = 6  # budgets up to the given one that the front is searched at
_ON_A_RUNG = 25  # questions to the planner for each of the smaller budgets


@dataclass(frozen=True)
class Settings:
    """How the fine-tunes are made.

    rate: of learning; None: that of RATES which suits the random half (a baseline) best. train,
    held: samples at most. processes: local ones; dask: the address of a cluster instead.
    """

    epochs: int = 2
    rate: float | None = None
    train: int = 400
    held: int = 500
    seed: int = 0
    processes: int = 2
    dask: str | None = None


@dataclass(frozen=True)
class Baseline:
    """candidate, cost: None where nothing is trained by a scheme."""

    name: str
    candidate: Candidate | None
    cost: Cost | None
    measured: Measured


@dataclass(frozen=True)
class TrainingPlan:
    """front: by bytes, the last has the largest sum of contributions. best: the point, or the
    baseline within the budget, with the best measured accuracy; of equals the smaller."""

    base: Scheme
    budget: Budget
    rate: float
    analysis: Analysis
    found: Found
    front: tuple[Point, ...]
    baselines: tuple[Baseline, ...]
    best: Point

    @property
    def scheme(self) -> Scheme:
        return self.best.candidate.scheme(self.base)


def plan_training(
    model: ModelSource,
    *,
    board: str,
    ram: int,
    data: Path,
    out: Path,
    held: Path | None = None,
    classes: int | None = None,
    rule: Rule = "residual8",
    time_budget: float | None = None,
    optimize: Objective = "instructions",
    calibrate: Samples | None = None,
    bind: Mapping[str, int] | None = None,
    settings: Settings | None = None,
    progress: Callable[[str], None] | None = None,
) -> TrainingPlan:
    """Fine-tunes go to `out`/fine_tunes.jsonl; those that are there already are not made again.

    ram, optimize: as `compile` takes them. time_budget: seconds of a training step. held: samples
    to judge by; by default a third of `data`. Raises DoesNotFit when not even the classifier can
    learn.
    """
    tell, how = progress or (lambda text: None), settings or Settings()
    machine = load_board(board)
    quantized = quantized_graph(model, calibrate, bind)
    base = Scheme(classes=classes, rule=rule)
    bench = _bench(quantized, base, data, held, how)
    aim = Aim(optimize)
    planner = Planner(quantized, machine, budget_of(machine, ram, time_budget), aim)
    tell("what fits")
    _check_the_classifier(planner, base)
    parts = affordable(planner, base)
    results = _results(out)
    with workers(bench, processes=how.processes, dask=how.dask) as submit:
        tuner = _Tuner(bench, how, submit, results, tell)
        chosen = named.baselines(planner, base, parts, how.seed)
        rate = tuner.best_rate(chosen[named.RANDOM].scheme(base))
        tuner = replace(tuner, how=replace(how, rate=rate))
        analysis = analyse(planner, base, parts, tuner.accuracies)
        found, points = _search(planner, base, analysis.problem, tell)
        candidates = {*chosen.values(), *(p.candidate for p in points)}
        measured = tuner.accuracies({c: c.scheme(base) for c in candidates})
        others = tuner.without_scheme(base)
    points = [_with_gain(p, measured[p.candidate], analysis.head) for p in points]
    rows = [Baseline(n, c, planner.cost(c.scheme(base)), measured[c]) for n, c in chosen.items()]
    rows += [Baseline(name, None, None, m) for name, m in others.items()]
    best = _best(points, rows, analysis, planner.budget)
    return TrainingPlan(
        base, planner.budget, rate, analysis, found, tuple(points), tuple(rows), best
    )


@dataclass(frozen=True)
class _Tuner:
    """Makes the fine-tunes that are not in the result file."""

    bench: Bench
    how: Settings
    submit: Submit
    results: ResultFile
    tell: Callable[[str], None]

    def accuracies(self, schemes: Mapping[Candidate, Scheme]) -> Mapping[Candidate, Measured]:
        how, rate = self.how, self.how.rate or 0.0
        return self._run({c: Job(s, how.epochs, rate, how.seed) for c, s in schemes.items()})

    def best_rate(self, scheme: Scheme) -> float:
        """The given one, or by the accuracy on the held-out samples; of equals the lower."""
        how = self.how
        if how.rate is not None:
            return how.rate
        measured = self._run({r: Job(scheme, how.epochs, r, how.seed) for r in RATES})
        return max(RATES, key=lambda r: (measured[r].accuracy, -r))

    def without_scheme(self, base: Scheme) -> Mapping[str, Measured]:
        """The nearest class mean, and the model as it came unless its classifier is replaced."""
        jobs = {named.MEANS: Job(None, 0, 0.0)}
        if base.classes is None:
            jobs[named.UNTRAINED] = Job(base, 0, 0.0)
        return self._run(jobs)

    def _run(self, jobs: Mapping[_Name, Job]) -> dict[_Name, Measured]:
        keys = {name: self.bench.key(job) for name, job in jobs.items()}
        wanted = {keys[name]: job for name, job in jobs.items()}

        def told(done: int, of: int) -> None:
            self.tell(f"fine-tune {done} of {of}")

        done = run_jobs(wanted, run_job, self.submit, self.results, told)
        count = len(self.bench.split.held)
        return {name: _measured(done[key], count) for name, key in keys.items()}


def quantized_graph(
    model: ModelSource, calibrate: Samples | None, bind: Mapping[str, int] | None
) -> Graph:
    """The model at stage QUANTIZED, its classifier still its own."""
    context = PassContext()
    graph = with_scales(canonical(model, context, bind=bind), calibrate, "auto", context)
    return run_passes(graph, _BEFORE_TRAINING, context)


def _results(folder: Path) -> ResultFile:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return ResultFile(folder / RESULTS)
    except OSError as error:
        raise CompileError(f"cannot write into {folder}: {error.strerror}") from error


def _bench(quantized: Graph, base: Scheme, data: Path, held: Path | None, how: Settings) -> Bench:
    inference = inference_graph(training_graph(quantized, base))
    classes = inference.outputs[0].type.elements
    train = read_classes(data, inference, classes, _FRESH)
    judge = read_classes(held, inference, classes, _FRESH) if held else None
    return Bench(print_graph(quantized), split(train, judge, how.train, how.held, how.seed))


def _check_the_classifier(planner: Planner, base: Scheme) -> None:
    cost, budget = planner.cost(base), planner.budget
    if budget.admits(cost):
        return
    if cost.ram_bytes > budget.ram_bytes:
        raise DoesNotFit(
            f"training the classifier alone takes {cost.ram_bytes:,} B of RAM: arena "
            f"{cost.arena_bytes:,} B, state {cost.state_bytes:,} B, stack {cost.stack_bytes:,} B",
            expected=f"at most {budget.ram_bytes:,} B",
            hint="give more with --ram, or take a smaller model",
        )
    raise DoesNotFit(
        f"a step that trains the classifier alone takes about {cost.instructions:,} instructions",
        expected=f"at most {budget.instructions:,}",
        hint="give more with --time-budget",
    )


def _search(
    planner: Planner, base: Scheme, problem: Problem, tell: Callable[[str], None]
) -> tuple[Found, list[Point]]:
    """The best scheme for the budget, and the front of it and of the best ones for less."""
    asked = itertools.count(1)

    def admits(candidate: Candidate, ram: int) -> bool:
        tell(f"search, question {next(asked)} to the planner")
        return planner.admits(candidate.scheme(base), replace(planner.budget, ram_bytes=ram))

    ram, lowest = planner.budget.ram_bytes, planner.cost(base).ram_bytes
    found = search(problem, lambda c: admits(c, ram))
    best = [Candidate(), found.best]
    for budget in np.linspace(ram, lowest, _LADDER + 1)[1:-1].astype(int):
        less = ram - int(budget)
        rung = search(
            replace(problem, depths=tuple(replace(d, room=d.room - less) for d in problem.depths)),
            lambda c, limit=int(budget): admits(c, limit),
            confirmations=_ON_A_RUNG,
            refused=found.refused,
            evolve=False,
        )
        best.append(rung.best)
    points = (Point(c, planner.cost(c.scheme(base)), problem.gain(c)) for c in dict.fromkeys(best))
    return found, front([p for p in points if planner.budget.admits(p.cost)])


def _measured(result: Mapping[str, object], count: int) -> Measured:
    packed = np.frombuffer(bytes.fromhex(str(result["correct"])), np.uint8)
    correct = np.unpackbits(packed)[:count].astype(np.float64)
    return Measured(float(correct.mean()), correct, bool(result["gave_up"]))


def _with_gain(point: Point, measured: Measured, head: Measured) -> Point:
    gain, error = measured.gain_over(head)
    return replace(point, gain=gain, error=error)


def _best(points: list[Point], rows: list[Baseline], analysis: Analysis, budget: Budget) -> Point:
    """By measured gain."""
    everything = list(points)
    for row in rows:
        if row.candidate is not None and row.cost is not None and budget.admits(row.cost):
            gain, error = row.measured.gain_over(analysis.head)
            everything.append(Point(row.candidate, row.cost, float("nan"), gain, error))
    if not everything:
        raise CompileError("no scheme fits the budget")
    return max(everything, key=lambda p: (p.gain or 0.0, -p.cost.ram_bytes))

"""A keyword model meets a speaker it has never heard: accuracy before and after N of their words.

    python tests/benchmarks/keyword_network.py FOLDER           # once, needs torch
    python tests/benchmarks/bench_keywords.py FOLDER RESULTS.jsonl [--report] [--device DIR]

Each of the six speakers in turn is the one who was left out. The quantised network learns N words
of theirs (takes 0 … 19, every digit as often), one at a time, in the simulator that is bit-exact
with the device, and keeps its classifier. `new` is the accuracy on 250 other words of theirs (takes
25 … 49), `known` on the 250 official test words of the other five: what it forgets. The rate is the
best of the case's by the mean over speakers and N on takes 20 … 24, with seed 0.
--device compiles one setting for the emulated Cortex-M7, trains there and compares every bit.
Runs that RESULTS.jsonl has already are skipped.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[2]))

from tinsmith.codegen.training import inference_graph
from tinsmith.commands.console import table
from tinsmith.ir.dtypes import Array
from tinsmith.lowering import canonical, lower
from tinsmith.pass_manager import PassContext
from tinsmith.pipeline import compile_model
from tinsmith.runner.learn import Settings, learn
from tinsmith.train.labelled import read_labelled
from tinsmith.train.scheme import Scheme, Update
from tinsmith.train.simulate import Trainer, fit
from tinsmith.train.variations import Variation

SPEAKERS, SEEDS, EPOCHS = range(6), range(3), 8
COUNTS, USUAL = (10, 30, 100, 200), 100
RATES = (0.0125, 0.004, 0.04)
BIASES = Update(node="*", bias=True)
DEFAULT = "biases, and the weights of the last 4 layers"


class Case(msgspec.Struct, frozen=True):
    """replay: as many words of the known speakers as of the new one are learnt in between."""

    name: str
    update: tuple[Update, ...]
    counts: tuple[int, ...] = (USUAL,)
    latent: bool = False
    replay: bool = False
    rates: tuple[float, ...] = RATES


LAST = (BIASES, Update(last=4, weights=1.0))
CASES = (
    Case(DEFAULT, LAST, COUNTS),
    Case("the same, and as many words of the five in between", LAST, replay=True, rates=RATES[:1]),
    Case("the same, float32 latent weights and gradients", LAST, latent=True, rates=RATES[:1]),
    Case("biases", (BIASES,)),
    Case("classifier", ()),
)


class Run(msgspec.Struct, frozen=True):
    case: str
    speaker: int
    count: int
    rate: float
    seed: int


@dataclass(frozen=True)
class Speaker:
    """What bench and device need of one left-out speaker. folder: of keyword_network.py."""

    folder: Path
    number: int

    @cached_property
    def data(self) -> dict[str, Array]:
        with np.load(self.path / "features.npz") as data:
            return dict(data)

    @property
    def path(self) -> Path:
        return self.folder / f"without_{self.number}"

    def part(self, new: bool, takes: range) -> Array:
        """The numbers of the new speaker's, or the others', words of these takes."""
        mine = (self.data["speaker"] == self.number) == new
        return np.flatnonzero(mine & np.isin(self.data["take"], takes))

    def lesson(self, case: Case, count: int, seed: int) -> Array:
        """The words to learn: `count` of the new speaker, every digit as often; maybe others."""
        rng = np.random.default_rng(seed)
        pool, labels = self.part(True, range(20)), self.data["label"]
        each = [rng.permutation(pool[labels[pool] == d])[: count // 10] for d in range(10)]
        words = np.concatenate(each)
        if case.replay:
            known = self.part(False, range(5, 50))
            words = np.concatenate([words, rng.choice(known, count, replace=False)])
        return words


def trainer_of(speaker: Speaker, case: Case) -> Trainer:
    """The network, quantised, with its training graph: the passes of `tinsmith compile`."""
    context = PassContext()
    graph = canonical(speaker.path / "model.onnx", context)
    scheme = Scheme(update=case.update)
    calibration = speaker.path / "calibration.npz"
    graph = lower(graph, "int8", calibration, "auto", context, scheme)
    return Trainer(graph, Variation("latent", "float32") if case.latent else Variation())


class Bench:
    """One case and speaker: the trainer, and every word up to the first layer that learns."""

    def __init__(self, speaker: Speaker, case: Case) -> None:
        self.speaker, self.case = speaker, case
        self.trainer = trainer_of(speaker, case)
        graph = self.trainer.graph
        data = read_labelled(speaker.path / "features.npz", inference_graph(graph), graph)
        self.words = [self.trainer.encode([row]) for row in data.rows[0]]
        self.labels = data.given[:, 0]
        self.start = self.trainer.snapshot()
        parts = (("new", True, 25, 50), ("known", False, 0, 5), ("val", True, 20, 25))
        self.parts = {n: speaker.part(new, range(a, b)) for n, new, a, b in parts}

    def score(self) -> dict[str, float]:
        """Percent right of every part."""
        return {
            name: 100 * self.trainer.accuracy([self.words[i] for i in part], self.labels[part])
            for name, part in self.parts.items()
        }

    def run(self, run: Run) -> dict[str, Any]:
        """The accuracies after learning; with 0 words, before."""
        self.trainer.restore(self.start)
        lesson = self.speaker.lesson(self.case, run.count, run.seed)
        if run.count:
            words = [self.words[i] for i in lesson]
            given = self.labels[lesson]
            fit(self.trainer, words, given, epochs=EPOCHS, rate=run.rate, seed=run.seed)
        return {**msgspec.to_builtins(run), **self.score()}


class Results:
    """RESULTS.jsonl: what was run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self.done = {self._key(r): r for r in map(json.loads, lines)}

    @staticmethod
    def _key(result: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(result[f] for f in Run.__struct_fields__)

    def find(self, run: Run) -> dict[str, Any] | None:
        return self.done.get(self._key(msgspec.to_builtins(run)))

    def add(self, result: dict[str, Any]) -> None:
        with self.path.open("a") as out:
            out.write(json.dumps(result) + "\n")
        self.done[self._key(result)] = result

    def rate(self, case: Case) -> float:
        """The best of the case's by the new speakers' validation words."""
        grid = [[self.find(r) for r in runs] for runs in tuning(case)]
        return max(
            zip(case.rates, grid, strict=True),
            key=lambda pair: np.mean([r["val"] if r else 0.0 for r in pair[1]]),
        )[0]


def tuning(case: Case) -> list[list[Run]]:
    """Per rate, the runs of all speakers and numbers of words."""
    return [[Run(case.name, s, n, r, 0) for n in case.counts for s in SPEAKERS] for r in case.rates]


def final(case: Case, results: Results) -> list[Run]:
    """What is reported once the rate is known."""
    rate = results.rate(case)
    return [Run(case.name, s, n, rate, k) for n in case.counts for s in SPEAKERS for k in SEEDS]


def measure(folder: Path, results: Results) -> None:
    for case in CASES:
        benches = [Bench(Speaker(folder, s), case) for s in SPEAKERS]
        _make([Run(case.name, s, 0, 0.0, 0) for s in SPEAKERS], benches, results)
        _make([run for runs in tuning(case) for run in runs], benches, results)
        _make(final(case, results), benches, results)


def _make(runs: Sequence[Run], benches: Sequence[Bench], results: Results) -> None:
    for run in runs:
        if results.find(run) is None:
            results.add(benches[run.speaker].run(run))
            shown = {k: round(results.find(run)[k], 1) for k in ("new", "known", "val")}
            print(run.case, run.count, run.rate, run.speaker, run.seed, shown, flush=True)


def rows(results: Results) -> Iterator[tuple[str, ...]]:
    """Means over seeds by speaker, then over speakers; ± is half the range of the seeds' means."""
    before = [results.find(Run(DEFAULT, s, 0, 0.0, 0)) for s in SPEAKERS]
    yield _row("before", 0, "", [[r] for r in before])
    for case in CASES:
        for count in case.counts:
            runs = [r for r in final(case, results) if r.count == count]
            found = [[results.find(r) for r in runs if r.speaker == s] for s in SPEAKERS]
            if all(r for group in found for r in group):
                yield _row(case.name, count, f"{runs[0].rate:g}", found)


def _row(name: str, count: int, rate: str, found: list[list[dict[str, Any]]]) -> tuple[str, ...]:
    new = np.array([[r["new"] for r in group] for group in found])
    known = np.mean([r["known"] for group in found for r in group])
    means = new.mean(axis=0)
    spread = f" ± {np.ptp(means) / 2:.1f}" if means.size > 1 else ""
    each = [f"{v:.1f}" for v in new.mean(axis=1)]
    return (name, str(count), rate, f"{means.mean():.1f}{spread}", *each, f"{known:.1f}")


def on_device(folder: Path, out: Path) -> None:
    """Speaker 0's first lesson of USUAL words on an emulated Cortex-M7, and in the simulator."""
    speaker, case = Speaker(folder, 0), CASES[0]
    compiled = compile_model(
        speaker.path / "model.onnx",
        board="mps2-an500",
        out=out,
        calibrate=speaker.path / "calibration.npz",
        train=Scheme(update=case.update),
    )
    lesson, judge = speaker.lesson(case, USUAL, 0), speaker.part(True, range(25, 50))
    x, y = speaker.data["x"], speaker.data["label"]
    np.savez(out / "lesson.npz", x=x[lesson], y=y[lesson], x_test=x[judge], y_test=y[judge])
    learnt = learn(out, out / "lesson.npz", Settings(EPOCHS, RATES[0]))
    bench = Bench(speaker, case)
    words = [bench.words[i] for i in lesson]
    history = fit(bench.trainer, words, bench.labels[lesson], epochs=EPOCHS, rate=RATES[0], seed=0)
    state = {v.name: a for v, a in learnt.state.items()}
    same = all(np.array_equal(state[v.name], a) for v, a in bench.trainer.state.items())
    print(f"{learnt.before.accuracy:.1%} before, {learnt.after.accuracy:.1%} after")
    print(f"{learnt.instructions_per_step:,} instructions a step, {compiled.report.ram_bytes:,} B")
    print(
        f"state equal to the simulator's: {same}; losses: {history.losses == learnt.history.losses}"
    )
    if not same or history.losses != learnt.history.losses:
        raise SystemExit(1)


COLUMNS = (
    "what learns", "words", "rate", "new", *(f"speaker {s}" for s in SPEAKERS), "known five",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of keyword_network.py")
    parser.add_argument("results", type=Path)
    parser.add_argument("--report", action="store_true", help="run nothing")
    parser.add_argument("--device", type=Path, metavar="DIR", help="only check the device, in DIR")
    args = parser.parse_args()
    if args.device:
        on_device(args.folder, args.device)
        return
    results = Results(args.results)
    if not args.report:
        measure(args.folder, results)
    title = f"keywords, {EPOCHS} epochs, batch 1, cosine"
    Console(width=200, highlight=False).print(table(title, COLUMNS, rows(results), left=2))


if __name__ == "__main__":
    main()

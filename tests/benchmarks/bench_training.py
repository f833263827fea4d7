"""Update rules and schemes side by side: accuracy on the CIFAR subset, with paired intervals.

    python tests/benchmarks/bench_training.py RESULTS.jsonl [--train 2000] [--epochs 4]
    python tests/benchmarks/bench_training.py RESULTS.jsonl --net mbv2-w0.35
        --cases tests/benchmarks/training_cases_mbv2.toml

The cases are in training_cases.toml, one run is training_accuracy.py's. Runs that RESULTS.jsonl has
already are skipped, so an interrupted benchmark goes on; --report prints the tables of what there
is. The interval is of the difference to the default on the held-out images: 95 %, bootstrap over
images of the mean over common seeds. It does not cover how training itself varies: the column of
differences per seed shows that.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks.training_accuracy import VAL, Run, build, encoded, images, run_one
from tinsmith.commands.console import table
from tinsmith.ir.dtypes import Array
from tinsmith.train.memory_model import paper_memory
from tinsmith.train.scheme import Update
from tinsmith.train.simulate import Trainer

CASES = Path(__file__).with_name("training_cases.toml")
IMAGES, TESTS = 4660, 846
RESAMPLES = 2000
RATE = 0.00125


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """See training_cases.toml; the keys are those of `Run`, with grids."""

    name: str
    scheme: str = "99kb"
    update: tuple[Update, ...] = ()
    bias_only: bool = False
    rule: str = "residual8"
    numbers: str = "int8"
    gradients: str = "int8"
    qas: bool = True
    rates: tuple[float, ...] = (RATE,)
    body_rates: tuple[float, ...] = (1.0,)

    def runs(self, net: str, train: int, epochs: int, seed: int) -> list[Run]:
        """One run per point of the grid."""
        shared = {k: getattr(self, k) for k in Run.__struct_fields__ if hasattr(self, k)}
        return [
            Run(**shared, rate=r, body_rate=b, net=net, train=train, epochs=epochs, seed=seed)
            for r in self.rates
            for b in self.body_rates
        ]


class Cases(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    case: tuple[Case, ...]


@dataclass(frozen=True)
class Setting:
    net: str
    train: int
    epochs: int
    seeds: int


class Store:
    """RESULTS.jsonl: a run is made when its line is not there yet."""

    def __init__(self, path: Path, cache: Path | None) -> None:
        self.path, self.cache = path, cache
        self.done: dict[str, dict[str, Any]] = {}
        for line in path.read_text().splitlines() if path.exists() else ():
            self._keep(json.loads(line))

    def _keep(self, result: dict[str, Any]) -> None:
        self.done[_key({k: result[k] for k in Run.__struct_fields__})] = result

    def find(self, run: Run) -> dict[str, Any] | None:
        return self.done.get(_key(msgspec.to_builtins(run)))

    def get(self, run: Run) -> dict[str, Any]:
        found = self.find(run)
        if found is None:
            found = dict(run_one(run, self.cache))
            with self.path.open("a") as out:
                out.write(json.dumps(found) + "\n")
            self._keep(found)
            shown = {k: round(found[k], 2) for k in ("val", "test", "hold", "step_ms")}
            print(run.net, run.name, run.rate, run.body_rate, run.seed, shown, flush=True)
        return found


def _key(run: dict[str, Any]) -> str:
    return json.dumps({k: v for k, v in run.items() if k != "name"}, sort_keys=True)


def measure(case: Case, setting: Setting, store: Store) -> None:
    """The grid with seed 0, then the best point with the other seeds."""
    grid = [store.get(r) for r in case.runs(setting.net, setting.train, setting.epochs, 0)]
    best = int(np.argmax([r["val"] for r in grid]))
    for seed in range(1, setting.seeds):
        store.get(case.runs(setting.net, setting.train, setting.epochs, seed)[best])


def results(case: Case, setting: Setting, store: Store) -> list[dict[str, Any]]:
    """What there is of a case at the best point of its grid, by seed."""
    grids = [
        [store.find(r) for r in case.runs(setting.net, setting.train, setting.epochs, seed)]
        for seed in range(setting.seeds)
    ]
    values = [-1.0 if r is None else r["val"] for r in grids[0]]
    best = int(np.argmax(values))
    return [g[best] for g in grids if g[best] is not None]


def correct(result: dict[str, Any]) -> Array:
    """1.0 or 0.0 for every held-out image."""
    packed = np.frombuffer(bytes.fromhex(result["bits"]), np.uint8)
    return np.unpackbits(packed)[: TESTS + IMAGES - result["train"] - VAL].astype(np.float64)


def difference(
    ours: Sequence[dict[str, Any]], theirs: Sequence[dict[str, Any]]
) -> tuple[float, tuple[float, float], list[float]] | None:
    """(points, 95 % interval over images, points per seed) of ours − theirs, common seeds only."""
    by_seed = {r["seed"]: correct(r) for r in theirs}
    each = [correct(r) - by_seed[r["seed"]] for r in ours if r["seed"] in by_seed]
    if not each:
        return None
    mean = np.mean(each, axis=0)
    picks = np.random.default_rng(0).integers(0, mean.size, (RESAMPLES, mean.size))
    low, high = np.percentile(mean[picks].mean(axis=1), (2.5, 97.5))
    return 100 * mean.mean(), (100 * low, 100 * high), [100 * float(d.mean()) for d in each]


def rows(cases: Sequence[Case], setting: Setting, store: Store) -> Iterator[tuple[object, ...]]:
    base = results(cases[0], setting, store)
    for case in cases:
        found = results(case, setting, store)
        if not found:
            continue
        run = case.runs(setting.net, setting.train, setting.epochs, 0)[0]
        memory = paper_memory(build(run), case.rule)
        whole = memory.kib + memory.residual / 8 / 1024
        hold = [r["hold"] for r in found]
        spread = (max(hold) - min(hold)) / 2
        against = difference(found, base) if case is not cases[0] else None
        yield (
            case.name,
            f"{memory.kib:.1f} / {whole:.1f}" if case.numbers == "int8" else "",
            f"{found[0]['rate']:g}" + (f" × {found[0]['body_rate']:g}" if not case.qas else ""),
            len(found),
            f"{np.mean(hold):.1f} ± {spread:.1f}",
            f"{np.mean([r['test'] for r in found]):.1f}",
            _text(against),
            " ".join(f"{d:+.1f}" for d in against[2]) if against else "",
        )


def _text(against: tuple[float, tuple[float, float], list[float]] | None) -> str:
    if against is None:
        return ""
    points, (low, high), _ = against
    return f"{points:+.2f} [{low:+.2f}, {high:+.2f}]"


def nearest_class_mean(setting: Setting, cache: Path | None) -> float:
    """Accuracy in percent on the held-out images, by distance in the classifier's int8 input."""
    run = Run("nearest class mean", 0.0, setting.net, "")
    trainer = Trainer(build(run))
    x, tests = (
        np.stack([s[0].reshape(-1) for s in encoded(trainer, split, cache)]).astype(np.float64)
        for split in ("train", "test")
    )
    y, labels = images("train")[1], images("test")[1]
    order = np.random.default_rng(7).permutation(len(y))
    mine, rest = order[: setting.train], order[setting.train :][VAL:]
    means = np.stack([x[mine][y[mine] == c].mean(axis=0) for c in range(10)])
    held, answers = np.concatenate([tests, x[rest]]), np.concatenate([labels, y[rest]])
    squares = ((held[:, None] - means) ** 2).sum(axis=2)
    return 100 * float(np.mean(squares.argmin(axis=1) == answers))


COLUMNS = (
    "case", "KiB without / with residual", "rate", "seeds", "hold", "test", "less the default",
    "by seed",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--net", default="mcunet-5fps")
    parser.add_argument("--train", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cases", type=Path, default=CASES, help="what to compare")
    parser.add_argument("--only", help="cases whose name contains this")
    parser.add_argument("--report", action="store_true", help="run nothing")
    parser.add_argument("--cache", type=Path, help="folder for encoded images")
    args = parser.parse_args()
    cases = msgspec.toml.decode(args.cases.read_bytes(), type=Cases).case
    setting = Setting(args.net, args.train, args.epochs, args.seeds)
    store = Store(args.results, args.cache)
    for case in cases if not args.report else ():
        if not args.only or args.only in case.name:
            measure(case, setting, store)
    title = f"{args.net}, {args.train} images × {args.epochs} epochs, batch 1, cosine"
    console = Console(width=200, highlight=False)
    console.print(table(title, COLUMNS, rows(cases, setting, store), left=2))
    ncm = nearest_class_mean(setting, args.cache)
    console.print(f"nearest class mean: {ncm:.1f} on the held-out images")


if __name__ == "__main__":
    main()

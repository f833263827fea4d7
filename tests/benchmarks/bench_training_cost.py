"""Bytes and instructions of training: the published schemes, and other choices beside them.

    python tests/benchmarks/bench_training_cost.py RESULTS.jsonl [--docs docs/training-cost.md]

Every published scheme (graphs/schemes/) and every case of training_cost_cases.toml is compiled for
a board and measured there: bytes of the linked ELF and of the plan, executed instructions of one
step. Lines that RESULTS.jsonl has already are not measured again, so an interrupted benchmark goes
on; start a new file when the compiler has changed. Instructions are not cycles.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks.tables import markdown, write_between
from tests.shared import shared_models
from tinsmith import paths
from tinsmith.commands.console import table
from tinsmith.errors import CompileError
from tinsmith.pipeline import compile_model
from tinsmith.runner.bench import bench
from tinsmith.train.scheme import Rule, Scheme, Update, read_scheme

CASES = Path(__file__).with_name("training_cost_cases.toml")
BASELINES = Path(__file__).with_name("baselines.toml")
SCHEMES = paths.GRAPHS / "schemes"
MEASURED = (
    "train_ram_bytes", "train_arena_bytes", "train_arena_lower_bound_bytes", "arena_bytes",
    "state_bytes", "stack_bytes", "flash_bytes", "train_step_instructions",
    "instructions_per_inference",
)  # fmt: skip
COLUMNS = (
    "RAM", "training arena", "its bound", "inference arena", "state", "flash", "a step",
    "an inference",
)  # fmt: skip
SHOWN = tuple(name for name in MEASURED if name != "stack_bytes")


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """See training_cost_cases.toml. scheme: a published one that it starts from."""

    name: str
    scheme: str = ""
    update: tuple[Update, ...] = ()
    rule: Rule = "residual8"


class Cases(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    case: tuple[Case, ...]


@dataclass(frozen=True)
class Run:
    """One thing to measure."""

    net: str
    name: str
    scheme: Scheme

    def key(self, board: str) -> str:
        return f"{board} {self.net} {self.name}"


def published() -> list[Run]:
    """The schemes of graphs/schemes, by network and size."""
    found: list[tuple[str, int, Path]] = []
    for path in SCHEMES.glob("*.toml"):
        net, _, label = path.stem.rpartition("-")
        found.append((net, int(label.removesuffix("kb")), path))
    return [Run(net, f"{size} kB", read_scheme(path)) for net, size, path in sorted(found)]


def compared(net: str) -> list[Run]:
    """The cases, all with ten fresh classes."""
    runs: list[Run] = []
    for case in msgspec.toml.decode(CASES.read_bytes(), type=Cases).case:
        base = Scheme(classes=10)
        if case.scheme:
            base = read_scheme(SCHEMES / f"{net}-{case.scheme}.toml")
        scheme = msgspec.structs.replace(base, update=base.update + case.update, rule=case.rule)
        runs.append(Run(net, case.name, scheme))
    return runs


class Store:
    """RESULTS.jsonl, one line for each thing measured."""

    def __init__(self, path: Path, board: str, ram: int | None) -> None:
        self.path, self.board, self.ram = path, board, ram
        self.done: dict[str, dict[str, Any]] = {}
        for line in path.read_text().splitlines() if path.exists() else ():
            result = json.loads(line)
            self.done[result["key"]] = result

    def get(self, run: Run) -> dict[str, Any]:
        key = run.key(self.board)
        if key not in self.done:
            self.done[key] = {"key": key, "net": run.net, "name": run.name} | self._measure(run)
            with self.path.open("a") as out:
                out.write(json.dumps(self.done[key]) + "\n")
            print(run.net, run.name, {k: self.done[key].get(k) for k in SHOWN}, flush=True)
        return self.done[key]

    def _measure(self, run: Run) -> dict[str, Any]:
        model = shared_models() / "mcu_nets" / f"{run.net}_int8.onnx"
        with tempfile.TemporaryDirectory() as folder:
            try:
                compile_model(
                    model, board=self.board, out=folder, train=run.scheme, ram=self.ram,
                    pictures=False,
                )  # fmt: skip
            except CompileError as error:
                return {"refused": str(error).splitlines()[0]}
            report = bench(folder)
        return {name: getattr(report, name) for name in MEASURED}


def rows(runs: Iterable[Run], store: Store, *, with_net: bool) -> Iterator[tuple[object, ...]]:
    for run in runs:
        result = store.get(run)
        name = (run.net, run.name) if with_net else (run.name,)
        yield (*name, *(result.get(k, result.get("refused", "")) for k in SHOWN))


def baseline_row() -> tuple[object, ...]:
    """The paper authors' generated trainer, in the columns of `rows`."""
    theirs = tomllib.loads(BASELINES.read_text())["training"]
    return (theirs["name"], *(theirs.get(k, "") for k in SHOWN))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--board", default="mps2-an500")
    parser.add_argument("--ram", type=int, help="bytes, in place of the board's")
    parser.add_argument("--net", default="mcunet-5fps", help="of the comparison")
    parser.add_argument("--docs", type=Path, help="write the tables into this page")
    args = parser.parse_args()
    store = Store(args.results, args.board, args.ram)
    parts = (
        ("published", ("network", "scheme"), list(rows(published(), store, with_net=True))),
        ("compared", ("what learns",), list(rows(compared(args.net), store, with_net=False))),
    )
    for name, left, cells in parts:
        if name == "compared" and args.net == "mcunet-5fps":
            cells.append(baseline_row())
        columns = (*left, *COLUMNS)
        title = f"{args.board}, {name}"
        Console(width=180, highlight=False).print(table(title, columns, cells, left=len(left)))
        if args.docs:
            write_between(args.docs, name, markdown(columns, cells, len(left)))


if __name__ == "__main__":
    main()

"""Real int8 networks on emulated cores, as compiled for speed, flash and RAM, beside other engines.

Run by `make bench`. Every figure of ours comes from the linked ELF or from running it, after its
outputs were verified; the others' are in baselines.toml. Instructions are not cycles: the estimate
prices each executed instruction by the core's manual, where it publishes prices.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[2]))

import tinsmith
from tests.benchmarks.tables import markdown, write_between
from tests.shared import shared_models
from tinsmith.commands.console import table
from tinsmith.runner.bench import bench
from tinsmith.runner.profile import profile_layers

BASELINES = Path(__file__).with_name("baselines.toml")
CORES = {
    "mps2-an386": "cortex-m4", "mps2-an500": "cortex-m7", "mps3-an547": "cortex-m55",
    "mps2-an385": "cortex-m3", "mps2-an385-armv6m": "cortex-m0", "qemu-riscv32": "rv32imac",
}  # fmt: skip
TINY = ("kws", "vww", "ic", "ad")
NETS = ("mcunet-5fps", "mbv2-w0.35", "proxyless-w0.3")
COLUMNS = (
    "model", "core", "least", "instructions", "per MAC", "est. cycles", "flash", "arena",
    "bound", "stack", "other engine", "theirs", "ratio", "their flash", "their arena",
    "their stack",
)  # fmt: skip
SHORT = (0, 1, 3, 5, 6, 7, 9, 11, 12, 13, 14, 15)  # what the README has of it
DRAWN = ("mps2-an386", "mps2-an500", "mps3-an547")


@dataclass(frozen=True)
class Case:
    """A build. aim: as `--optimize`."""

    model: str
    board: str
    aim: str = "instructions"


@dataclass(frozen=True)
class Row:
    """cycles: estimated, None without prices. theirs: of the other engine, or empty."""

    case: Case
    ours: dict[str, Any]
    cycles: float | None
    theirs: dict[str, Any]

    @property
    def ratio(self) -> float | None:
        """Their instructions for each of ours."""
        other = self.theirs.get("instructions")
        return other / self.ours["instructions_per_inference"] if other else None

    def cells(self) -> tuple[object, ...]:
        ours, theirs = self.ours, self.theirs
        macs = ours["macs"] + ours["removed_macs"]
        return (
            self.case.model,
            CORES[self.case.board].removeprefix("cortex-").upper(),
            self.case.aim,
            ours["instructions_per_inference"],
            f"{ours['instructions_per_inference'] / macs:.2f}",
            "" if self.cycles is None else round(self.cycles),
            ours["flash_bytes"],
            ours["arena_bytes"],
            "" if ours["arena_proved_optimal"] else ours["arena_lower_bound_bytes"],
            ours["stack_bytes"],
            theirs.get("engine", ""),
            theirs.get("instructions", ""),
            "" if self.ratio is None else f"{self.ratio:.2f}×",
            theirs.get("flash_bytes", ""),
            theirs.get("arena_bytes", ""),
            theirs.get("stack_bytes", ""),
        )


def cases() -> Iterator[Case]:
    """All rows of the table, the networks of MLPerf Tiny first."""
    for model in TINY:
        yield Case(model, "mps2-an386")
        yield Case(model, "mps2-an386", "cycles")
        for aim in ("instructions", "flash", "ram"):
            yield Case(model, "mps2-an500", aim)
        yield Case(model, "mps3-an547")
    for model in NETS:
        yield Case(model, "mps2-an386")
        yield Case(model, "mps2-an500")
        yield Case(model, "mps2-an500", "ram")
        yield Case(model, "mps3-an547")
    for model in TINY:
        for board in ("mps2-an385-armv6m", "mps2-an385", "qemu-riscv32"):
            yield Case(model, board)


def baseline(case: Case, known: dict[str, Any]) -> dict[str, Any]:
    """What baselines.toml has for a model on a core; portable kernels beside portable ones."""
    facts, core = known.get(case.model, {}), CORES[case.board]
    if core in facts.get("instructions", {}):
        name = facts.get("name", "TFLM + CMSIS-NN")
        return {**facts, "engine": name, "instructions": facts["instructions"][core]}
    reference = facts.get("reference_instructions", {})
    if core in reference:
        return {"engine": "TFLM reference", "instructions": reference[core]}
    return {}


def measure(case: Case, models: Path, folder: Path, known: dict[str, Any]) -> Row:
    project = folder / f"{case.model}-{case.board}-{case.aim}"
    source = "mlperf_tiny" if case.model in TINY else "mcu_nets"
    tinsmith.compile(
        models / source / f"{case.model}_int8.onnx", board=case.board, out=project,
        optimize=case.aim, pictures=False,
    )  # fmt: skip
    tinsmith.verify(project).check()
    bench(project)
    report = json.loads((project / "report.json").read_text())
    layers = profile_layers(project)
    cycles = [layer.cycles for layer in layers if layer.cycles is not None]
    return Row(case, report, sum(cycles) if cycles else None, baseline(case, known))


def draw(rows: list[Row], path: Path) -> None:
    """Grouped bars: executed instructions per inference, logarithmic."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(DRAWN), figsize=(11, 3.6), sharey=True)
    for axis, board in zip(axes, DRAWN, strict=True):
        mine = [
            r for r in rows
            if r.case.board == board and r.case.aim == "instructions" and r.case.model in TINY
        ]  # fmt: skip
        places = range(len(mine))
        theirs = [r.theirs["instructions"] for r in mine]
        ours = [r.ours["instructions_per_inference"] for r in mine]
        axis.bar([p - 0.2 for p in places], theirs, 0.4, label="TFLM + CMSIS-NN", color="#b8b8b8")
        axis.bar([p + 0.2 for p in places], ours, 0.4, label="tinsmith", color="#d2691e")
        axis.set_xticks(list(places), [r.case.model for r in mine])
        axis.set_title(CORES[board], fontsize=10)
        axis.set_yscale("log")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("instructions per inference")
    axes[-1].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=130)


def write_pages(rows: list[Row], readme: Path | None, docs: Path | None) -> None:
    cells = [r.cells() for r in rows]
    if docs:
        write_between(docs, "benchmarks", markdown(COLUMNS, cells, 3))
    if readme:
        shown = [
            r.cells() for r in rows
            if r.case.board in DRAWN and r.case.aim == "instructions" and r.case.model in TINY
        ]  # fmt: skip
        text = markdown([COLUMNS[i] for i in SHORT], ([c[i] for i in SHORT] for c in shown), 2)
        write_between(readme, "benchmarks", text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=Path, default=Path("out/bench"))
    parser.add_argument("--readme", type=Path, help="write the short table into this file")
    parser.add_argument("--docs", type=Path, help="write the whole table into this file")
    parser.add_argument("--only", metavar="MODEL", action="append", help="repeatable; no pages")
    options = parser.parse_args()
    models = shared_models()
    known = tomllib.loads(BASELINES.read_text())
    options.out.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    for case in cases():
        if options.only and case.model not in options.only:
            continue
        rows.append(measure(case, models, options.out, known))
        count = rows[-1].ours["instructions_per_inference"]
        print(f"{case.model} {case.board} {case.aim}: {count:,}", flush=True)
    Console(width=220, highlight=False).print(table("", COLUMNS, [r.cells() for r in rows], left=3))
    print(known["source"])
    data = [
        {"model": r.case.model, "board": r.case.board, "aim": r.case.aim, "ours": r.ours,
         "estimated_cycles": r.cycles, "theirs": r.theirs}
        for r in rows
    ]  # fmt: skip
    (options.out / "inference.json").write_text(json.dumps(data, indent=1) + "\n")
    if not options.only:
        draw(rows, options.out / "inference.png")
        write_pages(rows, options.readme, options.docs)
    print(f"wrote {options.out}/inference.json")


if __name__ == "__main__":
    main()

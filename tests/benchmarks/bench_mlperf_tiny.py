"""The int8 networks of MLPerf Tiny on three emulated cores, beside TFLM with CMSIS-NN.

Run by `make bench`. Every figure of ours comes from the linked ELF or from running it; the other
side's are in baselines.toml. Instructions are not cycles: one vector operation counts as one.
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

BASELINES = Path(__file__).with_name("baselines.toml")
MODELS = ("kws", "vww", "ic", "ad")
BOARDS = {"mps2-an386": "cortex-m4", "mps2-an500": "cortex-m7", "mps3-an547": "cortex-m55"}
COLUMNS = (
    "model", "core", "instructions", "TFLM", "ratio", "flash", "TFLM", "arena", "TFLM",
    "RAM", "TFLM", "stack", "TFLM",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One model on one board: our report, and the baseline's figures for the same core."""

    model: str
    board: str
    ours: dict[str, Any]
    theirs: dict[str, Any]

    @property
    def core(self) -> str:
        return BOARDS[self.board]

    @property
    def ratio(self) -> float:
        """Their instructions for each of ours."""
        return self.theirs["instructions"][self.core] / self.ours["instructions_per_inference"]

    def cells(self) -> tuple[object, ...]:
        ours, theirs = self.ours, self.theirs
        return (
            self.model,
            self.core.removeprefix("cortex-").upper(),
            ours["instructions_per_inference"],
            theirs["instructions"][self.core],
            f"{self.ratio:.2f}×",
            ours["flash_bytes"],
            theirs["flash_bytes"],
            ours["arena_bytes"],
            theirs["arena_bytes"],
            ours["ram_bytes"],
            theirs["arena_bytes"] + theirs["other_ram_bytes"],
            ours["stack_bytes"],
            theirs["stack_bytes"],
        )


def measure(models: Path, folder: Path) -> Iterator[Row]:
    baselines = tomllib.loads(BASELINES.read_text())
    for name in MODELS:
        for board in BOARDS:
            project = folder / f"{name}-{board}"
            tinsmith.compile(models / "mlperf_tiny" / f"{name}_int8.onnx", board=board, out=project)
            tinsmith.verify(project).check()
            bench(project)
            report = json.loads((project / "report.json").read_text())
            yield Row(name, board, report, baselines[name])


def draw(rows: list[Row], path: Path) -> None:
    """Grouped bars: executed instructions per inference, logarithmic."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(BOARDS), figsize=(11, 3.6), sharey=True)
    for axis, (board, core) in zip(axes, BOARDS.items(), strict=True):
        mine = [r for r in rows if r.board == board]
        places = range(len(mine))
        theirs = [r.theirs["instructions"][core] for r in mine]
        ours = [r.ours["instructions_per_inference"] for r in mine]
        axis.bar([p - 0.2 for p in places], theirs, 0.4, label="TFLM + CMSIS-NN", color="#b8b8b8")
        axis.bar([p + 0.2 for p in places], ours, 0.4, label="tinsmith", color="#d2691e")
        axis.set_xticks(list(places), [r.model for r in mine])
        axis.set_title(core, fontsize=10)
        axis.set_yscale("log")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("instructions per inference")
    axes[-1].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=Path, default=Path("out/bench"))
    parser.add_argument("--readme", type=Path, help="write the table into this file")
    options = parser.parse_args()
    models = shared_models()
    options.out.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    for row in measure(models, options.out):
        rows.append(row)
        print(f"{row.model:4s} {row.board}: {row.ratio:.2f}×", flush=True)
    Console(width=180, highlight=False).print(table("", COLUMNS, [r.cells() for r in rows], left=2))
    source = tomllib.loads(BASELINES.read_text())["source"]
    print(f"TFLM: {source}. Instructions are not cycles.")
    data = [{"model": r.model, "board": r.board, "ours": r.ours, "theirs": r.theirs} for r in rows]
    (options.out / "mlperf_tiny.json").write_text(json.dumps(data, indent=1) + "\n")
    draw(rows, options.out / "mlperf_tiny.png")
    if options.readme:
        write_between(options.readme, "benchmarks", markdown(COLUMNS, map(Row.cells, rows), 2))
    print(f"wrote {options.out}/mlperf_tiny.json and .png")


if __name__ == "__main__":
    main()

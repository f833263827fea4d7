"""What protection costs: four networks, three modes, two boards, beside the unprotected model.

    python tests/benchmarks/bench_trust.py RESULTS.jsonl --docs docs/trust.md

`--model kws`, `--board mps3-an547`, `--mode permute` (each more than once) measure a part.

Every case is compiled, compared with the oracle bit for bit over seeded random inputs, and measured
in the board's emulator. Lines that RESULTS.jsonl has already are not measured again: start a new
file when the compiler has changed. Instructions are executed ones, not cycles; the overhead is what
the protected model executes more than the unprotected one, which has the bridge too.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks.tables import markdown, write_between
from tests.shared import shared_models
from tinsmith.commands.console import table
from tinsmith.ir.dtypes import Array
from tinsmith.ir.graph import Graph
from tinsmith.pipeline import compile_model
from tinsmith.runner.bench import bench
from tinsmith.runner.compare import verify
from tinsmith.trust.project import Protection

MODELS = {
    "kws": "mlperf_tiny/kws_int8.onnx",
    "vww": "mlperf_tiny/vww_int8.onnx",
    "ic": "mlperf_tiny/ic_int8.onnx",
    "mcunet-5fps": "mcu_nets/mcunet-5fps_int8.onnx",
}
MODES = ("withhold", "permute", "coreguard-otp")
CORES = {"mps2-an505": "M33", "mps3-an547": "M55"}
BOARDS = tuple(CORES)
HEAD = (
    "mode", "network", "board", "unprotected", "overhead", "", "in the gateway",
    "of it the bridge", "secure flash", "secure RAM",
)  # fmt: skip
MEASURED = (
    "instructions_per_inference", "plain_instructions", "overhead_instructions",
    "secure_instructions", "bridge_instructions", "gateway_calls", "flash_bytes",
    "secure_flash_bytes", "ram_bytes", "secure_ram_bytes",
)  # fmt: skip


def inputs_of(graph: Graph, count: int) -> dict[str, Array]:
    """Full-range int8 as the device takes it, seeded."""
    rng = np.random.default_rng(7)
    return {
        v.name: rng.integers(-128, 128, (count, *v.type.shape)).astype(np.int8)
        for v in graph.inputs
    }


def measure(model: str, board: str, mode: str, count: int) -> dict[str, Any]:
    """One line of the results. Raises VerificationFailed when a bit differs."""
    with tempfile.TemporaryDirectory(prefix="bench-trust-") as folder:
        source = shared_models() / MODELS[model]
        project = compile_model(
            source, board=board, out=folder, trust=Protection(mode), name=model, pictures=False
        )
        result = verify(project, inputs_of(project.graph, count))
        result.check()
        report = bench(folder)
        trust = report.trust
        assert trust is not None
        line = {"model": model, "board": board, "mode": mode, "inputs": result.samples}
        line |= {name: getattr(report, name) for name in MEASURED}
        return line | {"cut": trust.cut, "channels": trust.channels, "bridge": trust.bridge}


def show(lines: Sequence[dict[str, Any]]) -> None:
    """A table of everything measured."""
    columns = (
        "model", "board", "mode", "inputs", "plain", "protected", "overhead", "%", "in gateway",
        "bridge", "calls", "flash", "secure flash", "secure RAM",
    )  # fmt: skip
    rows = [
        (
            line["model"], line["board"], line["mode"], line["inputs"],
            line["plain_instructions"], line["instructions_per_inference"],
            line["overhead_instructions"],
            100 * line["overhead_instructions"] / line["plain_instructions"],
            line["secure_instructions"], line["bridge_instructions"], line["gateway_calls"],
            line["flash_bytes"], line["secure_flash_bytes"], line["secure_ram_bytes"],
        )
        for line in lines
    ]  # fmt: skip
    Console(width=200).print(table("", columns, rows, 3))


def in_order(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """By mode, model and board."""
    ranks = (("mode", MODES), ("model", tuple(MODELS)), ("board", BOARDS))
    return sorted(lines, key=lambda line: [names.index(line[key]) for key, names in ranks])


def row(line: dict[str, Any]) -> tuple[object, ...]:
    """In the columns of HEAD."""
    plain, overhead = line["plain_instructions"], line["overhead_instructions"]
    share = 100 * overhead / plain
    return (
        f"`{line['mode']}`", line["model"], CORES[line["board"]], plain, overhead,
        f"{share:.2f} %" if share < 10 else f"{share:.0f} %", line["secure_instructions"],
        line["bridge_instructions"], line["secure_flash_bytes"], line["secure_ram_bytes"],
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--docs", type=Path, help="write the table into this page")
    parser.add_argument("--model", action="append", choices=tuple(MODELS))
    parser.add_argument("--board", action="append", choices=BOARDS)
    parser.add_argument("--mode", action="append", choices=MODES)
    parser.add_argument("--inputs", type=int, default=100)
    given = parser.parse_args()
    lines: list[dict[str, Any]] = []
    if given.results.exists():
        lines = [json.loads(text) for text in given.results.read_text().splitlines()]
    done = {(line["model"], line["board"], line["mode"]) for line in lines}
    for model in given.model or MODELS:
        for board in given.board or BOARDS:
            for mode in given.mode or MODES:
                if (model, board, mode) in done:
                    continue
                lines.append(measure(model, board, mode, given.inputs))
                with given.results.open("a") as file:
                    file.write(json.dumps(lines[-1]) + "\n")
                show(lines[-1:])
    show(lines)
    if given.docs:
        write_between(given.docs, "trust", markdown(HEAD, map(row, in_order(lines)), 3))


if __name__ == "__main__":
    main()

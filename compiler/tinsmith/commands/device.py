"""The commands that execute a compiled project: run, bench, verify."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from ..codegen.report import read_report
from ..codegen.report_text import SIMULATED, trust_lines
from ..errors import CompileError
from ..lab.place import reaching
from ..peers.interleave import ROUNDS
from ..runner.bench import NodeProfile, profile, profile_step
from ..runner.bench import bench as measure
from ..runner.compare import verify as compare
from ..runner.latency import using_threads
from ..runner.run import RunResult
from ..runner.run import run as execute
from ..trust.keys import read_public_key
from ..trust.manifest import check_manifest
from . import show
from .against import against as measure_against
from .against import thread_counts
from .console import err, out, print_json, progress, reported
from .figures import bench_figures
from .options import (
    Against,
    AsJson,
    Bind,
    Dtype,
    OptionalBoard,
    Project,
    Rounds,
    Samples,
    TfLite,
    ThreadCounts,
    Threads,
    VerifyWith,
    sizes,
)
from .serial import (
    DEFAULT_BAUD,
    Baud,
    Coordinator,
    PlaceName,
    PortName,
    serial_data,
    show_serial,
)

Input = Annotated[
    Path,
    typer.Option("--input", metavar="F.npz", help="samples, first axis; int8 or float32"),
]

Fresh = Annotated[
    bool, typer.Option("--fresh", help="as compiled, without what the device has learnt")
]


@reported
def run(
    project: Project,
    input_file: Input,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="G.npz", help="write the outputs here")
    ] = None,
    real: Annotated[bool, typer.Option("--float", help="outputs as float32, dequantised")] = False,
    fresh: Fresh = False,
    threads: Threads = None,
    verify_with: VerifyWith = None,
    port: PortName = None,
    baud: Baud = DEFAULT_BAUD,
    labgrid: PlaceName = None,
    coordinator: Coordinator = None,
    json: AsJson = False,
) -> None:
    """Run samples on the host or in the board's emulator, with what was learnt and committed.

    With --port, on a board that is connected to this machine.
    """
    _look_at_manifest(project, verify_with)
    with (
        progress(f"running {project}") as step,
        using_threads(threads),
        reaching(port, baud, place=labgrid, coordinator=coordinator, tell=step) as line,
    ):
        result = execute(
            project, input_file, fresh=fresh, progress=lambda i, n: step(f"{i} of {n}")
        )
    if output is not None:
        _save(output, result, real)
    if json:
        print_json(run_data(result) | serial_data(line))
        return
    show_serial(line)
    count = result.instructions_per_inference
    samples = len(result.device_outputs[0])
    console = out()
    console.print(f"{samples:,} samples{_learnt(result)}", markup=False)
    if count is not None:
        console.print(f"instructions_per_inference {count:,}", markup=False)
        console.print(f"stack {result.stack_painted_bytes:,} B", markup=False)
    if result.cycles_per_inference is not None:
        console.print(f"cycles_per_inference {result.cycles_per_inference:,}", markup=False)
    if output is not None:
        console.print(f"outputs in {output}", markup=False)


def _learnt(result: RunResult) -> str:
    return f", with what was learnt (commit {result.commit})" if result.commit else ""


def run_data(result: RunResult) -> dict[str, object]:
    """`run --json`. commit: of what was learnt; 0 for what was compiled."""
    return {
        "samples": len(result.device_outputs[0]),
        "commit": result.commit,
        "instructions_per_inference": result.instructions_per_inference,
        "cycles_per_inference": result.cycles_per_inference,
        "stack_bytes": result.stack_painted_bytes or None,
        "outputs": {
            name: {"shape": list(array.shape), "dtype": str(array.dtype)}
            for name, array in result.outputs.items()
        },
    }


def _save(path: Path, result: RunResult, real: bool) -> None:
    try:
        with path.open("wb") as file:
            outputs: Mapping[str, Any] = result.dequantized() if real else result.outputs
            np.savez(file, **outputs)
    except OSError as error:
        raise CompileError(f"cannot write {path}: {error.strerror}") from error


@reported
def bench(
    project: Annotated[
        Path,
        typer.Argument(
            metavar="DIR|MODEL",
            help="what `tinsmith compile` made; with --against an ONNX model",
            show_default=False,
        ),
    ],
    layers: Annotated[
        bool, typer.Option("--layers", help="instructions of every node too")
    ] = False,
    verify_with: VerifyWith = None,
    port: PortName = None,
    baud: Baud = DEFAULT_BAUD,
    labgrid: PlaceName = None,
    coordinator: Coordinator = None,
    json: AsJson = False,
    against: Against = None,
    board: OptionalBoard = None,
    threads: ThreadCounts = "1,all",
    rounds: Rounds = ROUNDS,
    tflite: TfLite = None,
    calibrate: Samples = None,
    dtype: Dtype = "int8",
    bind: Bind = None,
    output: Annotated[
        Path | None, typer.Option("-o", metavar="DIR", help="of --against: what it writes, here")
    ] = None,
) -> None:
    """Measure one inference on the board's emulator; the figures go into DIR/report.json.

    With --against, compile MODEL for --board and time it beside other runtimes.
    """
    if against is not None:
        measure_against(
            project, board=board, names=against, calibrate=calibrate, dtype=dtype, tflite=tflite,
            threads=threads, rounds=rounds, layers=layers, bind=sizes(bind), folder=output,
            as_json=json,
        )  # fmt: skip
        return
    _look_at_manifest(project, verify_with)
    count = thread_counts(threads)[0]
    with (
        progress(f"measuring {project}") as step,
        using_threads(count),
        reaching(port, baud, place=labgrid, coordinator=coordinator, tell=step) as line,
    ):
        report = measure(project)
        nodes = profile(project) if layers else []
        steps = profile_step(project) if layers and report.train_nodes else []
    figures = bench_figures(report)
    if json:
        data: dict[str, object] = {"model": report.model, "board": report.board, **figures}
        if layers:
            data["nodes"] = _profile_rows(nodes)
        if steps:
            data["train_nodes"] = _profile_rows(steps)
        print_json(data | serial_data(line))
        return
    show_serial(line)
    show.figures(f"{report.model} on {report.board}", figures)
    for line in trust_lines(report.trust) if report.trust else ():
        out().print(line, markup=False)
    measured = (report.instructions_per_inference, report.cycles_per_inference, report.latency_us)
    if all(figure is None for figure in measured):
        out().print(show.unmeasured(report), markup=False)
    for part in (nodes, steps):
        if part:
            show.profile(part)


def _look_at_manifest(project: Path, public: Path | None) -> None:
    """`--verify-with`, and what a simulation is not. The runner itself verifies that nothing was
    changed since it was signed."""
    if public is not None:
        check_manifest(project, read_public_key(public))
    trust = read_report(project).trust
    if trust is not None and trust.simulated:
        err().print(f"note: {SIMULATED}", markup=False)


def _profile_rows(nodes: Sequence[NodeProfile]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for p in nodes:
        unit, cost = ("instructions", p.instructions)
        if p.microseconds is not None:
            unit, cost = ("us", p.microseconds)
        elif p.cycles is not None:
            unit, cost = ("cycles", p.cycles)
        rows.append({"name": p.node.name, "op": p.node.op.name, unit: cost})
    return rows


@reported
def verify(
    project: Project,
    input_file: Annotated[
        Path | None,
        typer.Option("--input", metavar="F.npz", help="samples; by default seeded random ones"),
    ] = None,
    fresh: Fresh = False,
    threads: Threads = None,
    verify_with: VerifyWith = None,
    port: PortName = None,
    baud: Baud = DEFAULT_BAUD,
    labgrid: PlaceName = None,
    coordinator: Coordinator = None,
    json: AsJson = False,
) -> None:
    """Compare the device with the numpy oracle, bit for bit; exit 1 and the node if they differ."""
    _look_at_manifest(project, verify_with)
    with (
        progress(f"verifying {project}") as step,
        using_threads(threads),
        reaching(port, baud, place=labgrid, coordinator=coordinator, tell=step) as line,
    ):
        result = compare(
            project, input_file, fresh=fresh, progress=lambda i, n: step(f"{i} of {n}")
        )
    exact = all(array.dtype == np.int8 for array in result.run.device_outputs)
    if json:
        wrong = result.mismatch
        print_json(
            {
                "ok": result.ok,
                "bit_exact": result.ok and exact,
                "samples": result.samples,
                "commit": result.run.commit,
                "max_difference": result.max_difference,
                "first_difference": None
                if wrong is None
                else {
                    "sample": wrong.sample,
                    "node": wrong.node.name if wrong.node else None,
                    "onnx_node": wrong.node.origin.onnx_name if wrong.node else None,
                    "value": wrong.value.name,
                    "index": list(wrong.index),
                    "expected": wrong.expected,
                    "got": wrong.got,
                },
                **serial_data(line),
            }
        )
        raise typer.Exit(0 if result.ok else 1)
    show_serial(line)
    result.check()
    how = "bit-exact" if exact else f"within tolerance, at most {result.max_difference:.3g} off"
    out().print(f"{result.samples:,} samples: {how}{_learnt(result.run)}", markup=False)

"""The command that measures what the layers of a model should run with on a device."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, cast

import msgspec
import typer

from ..errors import BadInput
from ..ir.graph import Graph
from ..kernels.aim import Aim, Objective
from ..machine.board import Board as Machine
from ..machine.board import load_board
from ..machine.measured import write_measured
from ..machine.tuned import Tuned, TunedLayer, write_tuned
from ..pass_manager import PassContext
from ..pipeline import canonical, lower
from ..runner.measure_kernels import can_measure
from ..runner.tune_kernels import tune_kernels
from ..toolchain.tuned import known_measurements
from .console import out, print_json, progress, reported, table
from .options import AsJson, Bind, Board, Cpu, Dtype, Model, Optimize, Samples, sizes
from .show_tuned import show_tuned

TrackerAddress = Annotated[
    str | None,
    typer.Option(
        "--tracker", metavar="HOST:PORT", help="TVM's RPC tracker of a device farm; default: here"
    ),
]


@reported
def tune(
    model: Model,
    board: Board,
    path: Annotated[
        Path, typer.Option("-o", metavar="F.json", help="what was found", show_default=False)
    ],
    cpu: Cpu = None,
    tracker: TrackerAddress = None,
    key: Annotated[str, typer.Option("--key", help="of the devices, at --tracker")] = "tinsmith",
    trials: Annotated[int, typer.Option("--trials", min=2, help="tiles of each layer")] = 8,
    optimize: Optimize = "instructions",
    within: Annotated[
        float, typer.Option("--within", min=0, metavar="PERCENT", help="of the least estimate")
    ] = 10.0,
    calibrate: Samples = None,
    dtype: Dtype = "int8",
    bind: Bind = None,
    json: AsJson = False,
) -> None:
    """Measure a model's layers on a device, for `compile --tuned F.json`.

    Tiles of kernels from TVM; of a microcontroller the kernels whose estimates are close.
    """
    machine = load_board(board, cpu)
    if machine.target.tvm is None and not can_measure(machine):
        raise BadInput(
            f"nothing can be measured for board {board} here",
            expected="a board whose kernels come from TVM, or a Cortex-M that QEMU emulates",
        )
    with progress("tune") as step:
        context = PassContext(progress=step)
        graph = canonical(model, context, bind=sizes(bind))
        graph = lower(graph, dtype, calibrate, "auto", context)
        if machine.target.tvm is None:
            aim = Aim(cast(Objective, optimize))
            known = known_measurements(machine, path)
            kernels = tune_kernels(graph, machine, aim, within / 100, known, step)
            write_measured(path, kernels.found)
            show_tuned(kernels, path, as_json=json)
            return
        found = _tune(graph, machine, tracker, key, trials, step)
    write_tuned(path, Tuned(machine.target.name, tuple(t for t in found if t.us < t.default_us)))
    if json:
        print_json(msgspec.to_builtins(found))
    else:
        _show(found, path)


def _tune(
    graph: Graph,
    machine: Machine,
    tracker: str | None,
    key: str,
    trials: int,
    step: Callable[[str], None],
) -> list[TunedLayer]:
    """Every layer, on a device of the tracker's or on this machine."""
    from ..tvm_backend.devices import Tracker, local_tracker, session
    from ..tvm_backend.tune import layers, tune_layer

    target = machine.target
    assert target.tvm is not None
    if tracker is None and not machine.is_native:
        raise BadInput(
            f"this machine does not run the programs of {target.name}",
            expected="--tracker HOST:PORT of a farm with devices that do",
        )
    here = nullcontext(Tracker.parse(tracker, key)) if tracker else local_tracker()
    found: list[TunedLayer] = []
    with here as devices, session(devices) as remote:
        for layer in layers(graph, target.tvm):
            step(layer.name)
            found.append(tune_layer(layer, target, remote, trials))
    return found


def _show(found: list[TunedLayer], path: Path) -> None:
    rows = [
        (
            t.layer,
            f"{t.default_pixels}×{t.default_vectors}",
            t.default_us,
            f"{t.pixels}×{t.vectors}",
            t.us,
            t.default_us / t.us,
        )
        for t in found
    ]
    headings = ("layer", "tile", "us", "best tile", "us", "gain")
    out().print(table("", headings, rows))
    before, after = (sum(getattr(t, n) for t in found) for n in ("default_us", "us"))
    out().print(f"one of each layer: {before:.1f} us, tuned {after:.1f} us; wrote {path}")

"""The command that lets a compiled project learn."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import numpy as np
import typer

from ..lab.place import reaching
from ..runner.export import export_learnt
from ..runner.learn import Learnt, Progress, Score, Settings, learn
from ..runner.store import DeviceStore
from ..runner.training import open_training
from ..train.loop import Schedule
from .console import err, out, print_json, progress, reported, table
from .options import AsJson, Project
from .serial import (
    DEFAULT_BAUD,
    Baud,
    Coordinator,
    PlaceName,
    PortName,
    serial_data,
    show_serial,
)


@reported
def train(
    project: Project,
    data: Annotated[
        Path, typer.Option("--data", metavar="F.npz", help="samples x and labels y, first axis")
    ],
    epochs: Annotated[int, typer.Option("--epochs", help="how often to go over the samples")],
    evaluate: Annotated[
        Path | None,
        typer.Option("--eval", metavar="G.npz", help="samples to judge by, before and after"),
    ] = None,
    rate: Annotated[float, typer.Option("--lr", help="learning rate to begin with")] = 0.005,
    schedule: Annotated[str, typer.Option("--schedule", help="cosine or constant")] = "cosine",
    seed: Annotated[int, typer.Option("--seed", help="of the order of the samples")] = 0,
    simulate: Annotated[
        bool,
        typer.Option("--simulate", help="on this machine instead of the device; the same bits"),
    ] = False,
    canary: Annotated[
        Path | None,
        typer.Option("--canary", metavar="C.npz", help="samples that must not get worse"),
    ] = None,
    margin: Annotated[
        float, typer.Option("--canary-margin", help="fraction of them that may")
    ] = Settings.canary_margin,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="forget what the device has learnt before")
    ] = False,
    port: PortName = None,
    baud: Baud = DEFAULT_BAUD,
    labgrid: PlaceName = None,
    coordinator: Coordinator = None,
    json: AsJson = False,
) -> None:
    """Let a project that was compiled with --train learn: on the host or in the board's emulator.

    The device goes on from what its store holds, and commits. DIR/flash.bin is its flash;
    DIR/state.npz, trained.delta and trained.onnx are what it learnt.
    """
    settings = Settings(epochs, rate, cast(Schedule, schedule), seed, simulate, margin)
    if fresh:
        DeviceStore(open_training(project)).erase()
    with (
        progress(f"training {project}") as step,
        reaching(port, baud, place=labgrid, coordinator=coordinator, tell=step) as line,
    ):
        learnt = learn(
            project,
            data,
            settings,
            evaluate=evaluate,
            canary=canary,
            progress=lambda p: step(_now(p)),
        )
        step("writing what was learnt")
        files = export_learnt(learnt.training, learnt.state, learnt.commit.counter)
    if json:
        written = {"files": {k: str(p) for k, p in files.items()}}
        print_json(_data(learnt, settings) | written | serial_data(line))
    else:
        show_serial(line)
        _show(learnt, settings, files)
    raise typer.Exit(1 if learnt.history.gave_up else 0)


def _now(p: Progress) -> str:
    accuracy = "" if p.accuracy is None else f", accuracy {p.accuracy:.0%}"
    back = "" if not p.rollbacks else f", taken back {p.rollbacks}×"
    return f"step {p.steps:,} of {p.total:,}, loss {p.loss:.3f}{accuracy}{back}"


def _epoch_losses(learnt: Learnt, epochs: int) -> list[float]:
    """The mean loss of every epoch that was begun."""
    losses = learnt.history.losses
    size = -(-max(len(losses), 1) // epochs) if not learnt.history.gave_up else len(losses)
    return [float(np.mean(losses[i : i + size])) for i in range(0, len(losses), size)]


def _data(learnt: Learnt, settings: Settings) -> dict[str, object]:
    """`train --json`."""
    return {
        "simulated": settings.simulate,
        "epochs": settings.epochs,
        "steps": len(learnt.history.losses),
        "losses": _epoch_losses(learnt, settings.epochs),
        "evaluated_on": learnt.evaluated,
        "samples_evaluated": learnt.before.samples,
        "accuracy_before": learnt.before.accuracy,
        "accuracy_after": learnt.after.accuracy,
        "error_before": learnt.before.error,
        "error_after": learnt.after.error,
        "rollbacks": learnt.history.rollbacks,
        "rollback_reasons": learnt.history.reasons,
        "gave_up": learnt.history.gave_up,
        "train_step_instructions": learnt.instructions_per_step,
        "commits": learnt.commit.counter,
    }


def _show(learnt: Learnt, settings: Settings, files: dict[str, Path]) -> None:
    rows = enumerate(_epoch_losses(learnt, settings.epochs), 1)
    made = table("", ("epoch", "mean loss"), [(str(e), f"{loss:.4f}") for e, loss in rows])
    out().print(made)
    text = f"{_score(learnt.before)} before, {_score(learnt.after)} after"
    out().print(f"{learnt.before.samples:,} {learnt.evaluated} samples: {text}", markup=False)
    if learnt.instructions_per_step is not None:
        out().print(f"train_step_instructions {learnt.instructions_per_step:,}", markup=False)
    history = learnt.history
    for step, reason in zip(history.rollbacks, history.reasons, strict=True):
        text = f"{reason}: back to the last commit, at half the rate"
        err().print(f"note: step {step:,}: {text}", markup=False)
    if _worse(learnt):
        err().print("note: it is worse than before; train with a lower --lr", markup=False)
    if learnt.history.gave_up:
        text = "error: it went wrong again and again\n  hint: train with a lower --lr"
        err().print(text, markup=False)
    out().print(f"commit {learnt.commit.counter}; wrote {', '.join(map(str, files.values()))}")


def _worse(learnt: Learnt) -> bool:
    before, after = learnt.before, learnt.after
    if before.accuracy is not None and after.accuracy is not None:
        return after.accuracy < before.accuracy
    return (after.error or 0) > (before.error or 0)


def _score(score: Score) -> str:
    if score.accuracy is not None:
        return f"{score.accuracy:.1%}"
    return f"mean squared error {score.error:.5g}"

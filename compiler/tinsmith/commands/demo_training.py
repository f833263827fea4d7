"""The demonstration of learning: the world changes, the device adapts, and keeps what it learnt.

A network that reads digits is deployed; then they come inverted. The device learns them one by one.
At the end its power is cut in the middle of commits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from .. import paths
from ..errors import InternalError
from ..figures import drawn
from ..ir.dtypes import Array
from ..pipeline import compile_model
from ..quant.samples import match_samples
from ..runner.execute import PowerCut
from ..runner.export import export_learnt
from ..runner.learn import DeviceLearner, score
from ..runner.store import CUT_AFTER, CUT_BEFORE, CUT_DURING, DeviceStore
from ..runner.training import State, TrainingProject, open_training
from ..train.labelled import Labelled
from ..train.loop import History, run_loop
from . import show
from .console import out, print_json, progress, reported, table
from .options import AsJson

MODEL = "digits_dscnn"
STREAM = 300  # digits that the device learns from; it is judged by the others
EPOCHS, RATE = 8, 0.005
LOOK_EVERY = 150  # steps between two points of the picture
CUTS = 9


@dataclass(frozen=True)
class Point:
    """Accuracies, fractions: on digits as they are now, and as they were. steps: taken so far."""

    steps: int
    now: float
    earlier: float


@dataclass(frozen=True)
class Outcome:
    """points: while it learnt. cuts: commits in which power was cut; old, new: what the device held
    after each. recovered: accuracy after the last cut, a restart and a commit."""

    model: str
    board: str
    ram_bytes: int | None
    state_bytes: int | None
    train_step_instructions: int | None
    points: tuple[Point, ...]
    cuts: int
    old: int
    new: int
    recovered: float
    folder: str
    picture: str


@reported
def demo_training(
    board: Annotated[str, typer.Option(help="an emulated board")] = "mps2-an500",
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR")] = Path("tinsmith-demo"),
    json: AsJson = False,
) -> None:
    """A deployed model meets a changed world, learns it in QEMU, and keeps it when power fails."""
    with progress("demo") as step:
        outcome = demonstrate(board, output / f"{MODEL}-learns-{board}", step)
    if json:
        print_json(asdict(outcome))
        return
    rows = [(f"{p.steps:,}", f"{p.now:.1%}", f"{p.earlier:.1%}") for p in outcome.points]
    text = (
        f"{outcome.model} on {outcome.board} learns {STREAM} inverted digits, {EPOCHS} times each;"
    )
    out().print(f"{text} accuracy on others:", markup=False)
    out().print(table("", ("step", "inverted", "as before"), rows, 0))
    show.figures(
        "",
        {
            "RAM bytes": outcome.ram_bytes,
            "of it what it learns": outcome.state_bytes,
            "instructions a step": outcome.train_step_instructions,
        },
    )
    text = f"power cut in {outcome.cuts} commits: {outcome.old} times the old state was there"
    out().print(f"{text}, {outcome.new} times the new one, never another", markup=False)
    out().print(f"after the last restart {outcome.recovered:.1%}; {outcome.picture}", markup=False)


def demonstrate(board: str, folder: Path, step: Callable[[str], None]) -> Outcome:
    """Compile into `folder`, train there, cut the power. Raises what these raise."""
    source = paths.GRAPHS / MODEL
    step(f"compiling {MODEL} for {board}")
    compiled = compile_model(
        source / "model.onnx",
        board=board,
        out=folder,
        calibrate=source / "calibration.npz",
        train=source / "update.toml",
        name=MODEL,
    )
    training = open_training(folder)
    store = DeviceStore(training)
    store.erase()
    stream, judge, earlier = _samples(source / "samples.npz", training)
    learner = DeviceLearner(store, stream, store.load()[0])
    points = [_look(training, learner.state, 0, judge, earlier)]

    def look(history: History) -> None:
        done = len(history.losses)
        step(f"step {done} of {EPOCHS * STREAM}, loss {np.mean(history.losses[-50:]):.2f}")
        if done >= points[-1].steps + LOOK_EVERY:
            points.append(_look(training, learner.state, done, judge, earlier))

    labels = stream.labels.tolist()
    run_loop(learner, STREAM, epochs=EPOCHS, rate=RATE, labels=labels, chunk=50, after_chunk=look)
    step("cutting the power")
    old, new = _cut_power(store, learner.state)
    counter = store.commit(learner.state).counter
    state, _ = store.load()
    export_learnt(training, state, counter)
    recovered = score(training, state, judge).accuracy or 0.0
    picture = folder / "learning.png"
    draw(picture, points, recovered)
    counts = learner.instructions
    return Outcome(
        model=MODEL,
        board=board,
        ram_bytes=compiled.report.ram_bytes,
        state_bytes=compiled.report.state_bytes,
        train_step_instructions=round(float(np.mean(counts))) if counts else None,
        points=tuple(points),
        cuts=old + new,
        old=old,
        new=new,
        recovered=recovered,
        folder=str(folder),
        picture=str(picture),
    )


def _samples(path: Path, training: TrainingProject) -> tuple[Labelled, Labelled, Labelled]:
    """Inverted digits to learn from, inverted ones to judge by, and these as they were."""
    with np.load(path, allow_pickle=False) as archive:
        x, labels = archive["x"], archive["label"].astype(np.int32)[:, None]

    def labelled(images: Array, given: Array) -> Labelled:
        return Labelled(match_samples({"x": images}, training.project.graph), given)

    return (
        labelled(1 - x[:STREAM], labels[:STREAM]),
        labelled(1 - x[STREAM:], labels[STREAM:]),
        labelled(x[STREAM:], labels[STREAM:]),
    )


def _look(
    training: TrainingProject, state: State, steps: int, judge: Labelled, earlier: Labelled
) -> Point:
    now, before = (score(training, state, samples).accuracy or 0.0 for samples in (judge, earlier))
    return Point(steps, now, before)


def _cut_power(store: DeviceStore, state: State) -> tuple[int, int]:
    """Cut it at CUTS places of a commit; how often the old state was there, and the new one.

    Each time the flash is put back, so that the old state is the one committed while learning.
    """
    before = store.flash.read_bytes()
    old = store.load()[0]
    operations = store.commit(state).operations
    found = {"old": 0, "new": 0}
    for i, operation in enumerate(np.linspace(1, operations, CUTS).round().astype(int)):
        store.flash.write_bytes(before)
        try:
            store.commit(state, (int(operation), (CUT_BEFORE, CUT_DURING, CUT_AFTER)[i % 3]))
        except PowerCut:
            held = store.training.pack(store.load()[0])
            kind = "new" if np.array_equal(held, store.training.pack(state)) else "old"
            if kind == "old" and not np.array_equal(held, store.training.pack(old)):
                raise InternalError("the store holds neither the old state nor the new") from None
            found[kind] += 1
    return found["old"], found["new"]


def draw(path: Path, points: list[Point], recovered: float) -> None:
    """Accuracy over the samples seen, as a picture."""
    with drawn((7.2, 3.6), path) as figure:
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        steps = [p.steps for p in points]
        axes.plot(steps, [100 * p.now for p in points], color="#0b6e99", marker="o", markersize=3)
        axes.plot(steps, [100 * p.earlier for p in points], color="#b0b0b0", linestyle="--")
        axes.axvline(steps[-1], color="#c0392b", linewidth=1)
        axes.plot([steps[-1]], [100 * recovered], color="#c0392b", marker="D", markersize=6)
        axes.set_xlabel(f"steps on the device: {STREAM} inverted digits, {EPOCHS} times each")
        axes.set_ylabel("accuracy on other digits, %")
        axes.set_ylim(0, 100)
        axes.text(steps[-1], 6, "power cut in commits ", ha="right", color="#c0392b")
        middle = points[len(points) // 2]
        axes.text(middle.steps, 100 * middle.now - 10, "inverted digits", color="#0b6e99")
        axes.text(middle.steps, 100 * middle.earlier - 12, "digits as before", color="#808080")

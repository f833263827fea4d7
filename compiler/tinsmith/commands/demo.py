"""The demonstration: trained models of `graphs/`, compiled, run in the emulator, verified."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from .. import paths
from ..errors import CompileError
from ..ir.dtypes import Array
from ..pass_manager import PassContext
from ..pipeline import canonical, compile_model
from ..quant.batch import run_many
from ..quant.samples import match_samples
from ..runner.compare import verify
from .console import out, print_json, progress, reported, table
from .options import AsJson

SHADES = " .:-=+*#%@"
PICTURE_ROWS = 8


@dataclass(frozen=True)
class Outcome:
    """One model on one board, verified. Sizes in bytes.

    accuracy, float_accuracy: fractions of these samples that the device and the float network get
    right; None for a network that does not classify. answers: the device's classes.
    """

    model: str
    board: str
    samples: int
    bit_exact: bool
    accuracy: float | None
    float_accuracy: float | None
    flash_bytes: int | None
    ram_bytes: int | None
    arena_bytes: int
    stack_bytes: int | None
    macs: int
    instructions_per_inference: int | None
    folder: str
    answers: list[int]


@reported
def demo(
    model: Annotated[
        list[str] | None, typer.Option(help="a name under graphs/; repeatable")
    ] = None,
    board: Annotated[list[str] | None, typer.Option(help="repeatable")] = None,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR")] = Path("tinsmith-demo"),
    samples: Annotated[int, typer.Option(min=1, help="how many test samples to run")] = 100,
    json: AsJson = False,
) -> None:
    """Compile trained models, run them in QEMU on real digits, verify every bit, show the cost."""
    models, boards = model or ["digits_dscnn"], board or ["mps2-an500"]
    with progress("demo") as step:
        outcomes = [
            demonstrate(m, b, output / f"{m}-{b}", samples, step) for m in models for b in boards
        ]
    if json:
        print_json([asdict(o) for o in outcomes])
        return
    _show_picture(outcomes[0])
    rows = [
        (
            o.model,
            o.board,
            "bit-exact" if o.bit_exact else "within tolerance",
            None if o.accuracy is None else f"{o.accuracy:.1%}",
            None if o.float_accuracy is None else f"{o.float_accuracy:.1%}",
            o.flash_bytes,
            o.ram_bytes,
            o.arena_bytes,
            o.stack_bytes,
            o.instructions_per_inference,
        )
        for o in outcomes
    ]
    columns = (
        "model", "board", "verified", "accuracy", "in float", "flash", "RAM", "arena", "stack",
        "instructions",
    )  # fmt: skip
    count = outcomes[0].samples
    out().print(table(f"{count} test samples each, on the emulated board", columns, rows, 3))
    out().print(f"pictures of the arenas: {output}/*/arena.png", markup=False)


def demonstrate(
    model: str, board: str, project: Path, count: int, step: Callable[[str], None]
) -> Outcome:
    """Compile into `project`, run `count` test samples, compare every output with the oracle.

    Raises CompileError for an unknown model, and what compiling and running raise;
    VerificationFailed when a single bit differs.
    """
    source = _source(model)
    facts = tomllib.loads((source / "provenance.toml").read_text())
    inputs, labels = _samples(source, count)
    step(f"compiling {model} for {board}")
    compiled = compile_model(
        source / "model.onnx",
        board=board,
        out=project,
        calibrate=source / "calibration.npz",
        name=model,
    )
    step(f"running {model} on {board}")
    result = verify(
        project, {"x": inputs}, progress=lambda i, n: step(f"running {model} on {board}: {i}/{n}")
    )
    result.check()
    report, run = compiled.report, result.run
    answers, float_answers = (
        _classes(run.device_outputs[0]),
        _classes(_float_outputs(source, inputs)),
    )
    classifies = "accuracy" in facts
    return Outcome(
        model=model,
        board=board,
        samples=len(inputs),
        bit_exact=result.max_difference == 0,
        accuracy=float(np.mean(answers == labels)) if classifies else None,
        float_accuracy=float(np.mean(float_answers == labels)) if classifies else None,
        flash_bytes=report.flash_bytes,
        ram_bytes=report.ram_bytes,
        arena_bytes=report.arena_bytes,
        stack_bytes=report.stack_bytes,
        macs=report.macs,
        instructions_per_inference=run.instructions_per_inference,
        folder=str(project),
        answers=[int(a) for a in answers] if classifies else [],
    )


def _classes(scores: Array) -> Array:
    return scores.reshape(len(scores), -1).argmax(1)


def _float_outputs(source: Path, inputs: Array) -> Array:
    """What the network computes before anything is quantised."""
    graph = canonical(source / "model.onnx", PassContext())
    return run_many(graph, match_samples({"x": inputs}, graph))[0]


def _source(model: str) -> Path:
    known = sorted(p.parent.name for p in paths.GRAPHS.glob("*/provenance.toml"))
    if model not in known:
        raise CompileError(f"unknown model {model!r}", expected=f"one of {', '.join(known)}")
    return paths.GRAPHS / model


def _samples(source: Path, count: int) -> tuple[Array, Array]:
    with np.load(source / "samples.npz", allow_pickle=False) as archive:
        return archive["x"][:count], archive["label"][:count]


def _show_picture(outcome: Outcome) -> None:
    """The first test image in characters, with what the device says it is."""
    inputs, labels = _samples(_source(outcome.model), 1)
    side = round(inputs[0].size ** 0.5)
    for line in picture(inputs[0].reshape(side, side)):
        out().print(f"    {line}", markup=False)
    if outcome.answers:
        said = f"{outcome.board} says {outcome.answers[0]}, the label is {labels[0]}"
        out().print(f"    {said}\n", markup=False)


def picture(image: Array) -> Sequence[str]:
    """Values in [0, 1] of a square image as lines of text, two characters for a pixel."""
    step = len(image) // PICTURE_ROWS
    shade = np.minimum((image[::step, ::step] * len(SHADES)).astype(int), len(SHADES) - 1)
    return ["".join(SHADES[v] * 2 for v in row) for row in shade]

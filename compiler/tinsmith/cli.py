"""The command line: arguments in, calls of the library, exit codes out. It computes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from . import __version__
from .commands import (
    analyze,
    attack,
    build,
    compiling,
    demo,
    demo_training,
    demo_trust,
    device,
    diff,
    flash,
    lab,
    package,
    profile,
    protect,
    report,
    show,
    train,
    train_plan,
    tune,
)
from .commands.console import print_json, reported
from .commands.doctor import diagnose
from .commands.examples import epilog
from .commands.options import AsJson, Bind, Model, sizes
from .frontend.onnx_import import check_model
from .machine.board import board_names, load_board
from .machine.target import load_target, target_names
from .ops import registry

app = typer.Typer(
    name="tinsmith",
    help="Compiles ONNX models into int8 firmware, bit-exact on every target.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _command(name: str | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Registers a command under its function's name or another, with its examples."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        known = name or function.__name__
        return app.command(known, epilog=epilog(known))(function)

    return register


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tinsmith {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="print the version"),
    ] = False,
) -> None:
    """Options before the command."""
    del version


@_command()
@reported
def check(model: Model, bind: Bind = None, json: AsJson = False) -> None:
    """Say whether every node of a model is supported; exit 1 when one is not."""
    report = check_model(model, bind=sizes(bind))
    if json:
        print_json(show.check_data(report))
    else:
        show.check(report)
    raise typer.Exit(1 if report.unsupported else 0)


@_command()
@reported
def boards(json: AsJson = False) -> None:
    """List the boards: memory, target, and what runs them."""
    records = [load_board(name) for name in board_names()]
    if json:
        print_json([show.board_data(b) for b in records])
    else:
        show.boards(records)


@_command()
@reported
def targets(json: AsJson = False) -> None:
    """List the instruction sets."""
    records = [load_target(name) for name in target_names()]
    if json:
        print_json([show.target_data(t) for t in records])
    else:
        show.targets(records)


@_command()
@reported
def ops(json: AsJson = False) -> None:
    """List the operators, and the ONNX operators that become them."""
    records = list(registry().values())
    if json:
        print_json([show.op_data(op) for op in records])
    else:
        show.ops(records)


@_command()
@reported
def doctor(json: AsJson = False) -> None:
    """Look for compilers and emulators; say what to install. Exit 3 when something is missing."""
    diagnosis = diagnose()
    if json:
        print_json(show.doctor_data(diagnosis))
    else:
        show.doctor(diagnosis)
    raise typer.Exit(3 if diagnosis.missing else 0)


_command()(analyze.analyze)
_command()(compiling.quantize)
_command("compile")(compiling.compile_)
_command()(build.build)
_command()(package.package)
_command()(protect.protect)
_command()(protect.seal)
_command()(protect.authorize)
_command()(protect.images)
_command()(attack.attack)
_command()(flash.flash)
_command()(lab.lab)
_command()(device.run)
_command()(device.bench)
_command()(profile.profile)
_command()(device.verify)
_command()(diff.diff)
_command()(report.report)
_command()(train.train)
_command("train-plan")(train_plan.train_plan)
_command()(tune.tune)
_command()(demo.demo)
_command("demo-training")(demo_training.demo_training)
_command("demo-trust")(demo_trust.demo_trust)


def main() -> None:
    """Entry point of the console script."""
    app()

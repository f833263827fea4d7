"""The command that looks for what of a model should learn on a board."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, cast, get_args

import typer

from ..errors import CompileError
from ..kernels.aim import Objective
from ..train.scheme import Rule
from ..train_plan.plan import Settings, TrainingPlan, plan_training
from ..train_plan.report import DATA, PICTURE, SCHEME, plan_data, write_plan
from .console import err, out, print_json, progress, reported, table
from .options import AsJson, Bind, Board, Model, Optimize, Samples, sizes

Labelled = typer.Option(metavar="F.npz", help="samples x with their label")


@reported
def train_plan(
    model: Model,
    board: Board,
    ram: Annotated[int, typer.Option(min=1, help="bytes, stack included", show_default=False)],
    data: Annotated[Path, Labelled],
    held: Annotated[
        Path | None, typer.Option("--eval", metavar="G.npz", help="samples to judge by")
    ] = None,
    time_budget: Annotated[
        float | None, typer.Option(metavar="S", help="seconds of one training step at most")
    ] = None,
    classes: Annotated[
        int | None, typer.Option(min=2, help="give the model a fresh classifier")
    ] = None,
    rule: Annotated[str, typer.Option(help="residual8, residual4, stochastic or nearest")] = (
        "residual8"
    ),
    epochs: Annotated[int, typer.Option(min=1, help="of every fine-tune")] = Settings.epochs,
    rate: Annotated[
        float | None, typer.Option(min=0, help="learning rate, falls to 0; by default tried out")
    ] = None,
    samples: Annotated[int, typer.Option(min=2, help="to train on, at most")] = Settings.train,
    judges: Annotated[int, typer.Option(min=2, help="to judge by, at most")] = Settings.held,
    seed: Annotated[int, typer.Option(help="of which samples, and their order")] = 0,
    jobs: Annotated[int, typer.Option(min=1, help="local processes")] = Settings.processes,
    dask: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="a Dask cluster, in place of --jobs")
    ] = None,
    optimize: Optimize = "instructions",
    calibrate: Samples = None,
    bind: Bind = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="results; goes on where it was")
    ] = Path("train-plan"),
    json: AsJson = False,
) -> None:
    """Find the update scheme with the largest gain in accuracy for a budget of RAM."""
    if rule not in get_args(Rule):
        raise CompileError(f"unknown rule {rule!r}", expected=", ".join(get_args(Rule)))
    settings = Settings(epochs, rate, samples, judges, seed, jobs, dask)
    with progress(f"planning for {board}") as step:
        plan = plan_training(
            model,
            board=board,
            ram=ram,
            data=data,
            out=output,
            held=held,
            classes=classes,
            rule=cast(Rule, rule),
            time_budget=time_budget,
            optimize=cast(Objective, optimize),
            calibrate=calibrate,
            bind=sizes(bind),
            settings=settings,
            progress=step if err().is_terminal else _lines(),
        )
    write_plan(plan, output, model.stem, board)
    if json:
        print_json(plan_data(plan, model.stem, board))
        return
    _show(plan, output)


def _lines() -> Callable[[str], None]:
    """For a log: one line for every twenty fine-tunes."""

    def tell(text: str) -> None:
        words = text.split()
        if words[0] != "fine-tune" or int(words[1]) % 20 == 0 or words[1] == words[3]:
            err().print(text, markup=False)

    return tell


def _show(plan: TrainingPlan, folder: Path) -> None:
    def gain(value: float | None, error: float | None) -> str:
        return "" if value is None else f"{100 * value:+.1f} ± {100 * (error or 0):.1f}"

    best = sorted(plan.analysis.contributions, key=lambda c: -c.gain)[:10]
    rows = [(str(c.part), gain(c.gain, c.error), c.bytes) for c in best]
    out().print(table("contributions, the largest", ("part", "points", "state bytes"), rows))
    columns = ("scheme", "points", "sum of parts", "RAM bytes", "instructions")
    rows = [
        (
            str(p.candidate), gain(p.gain, p.error), f"{100 * p.predicted:+.1f}",
            p.cost.ram_bytes, p.cost.instructions,
        )
        for p in plan.front
    ]  # fmt: skip
    out().print(table("Pareto front", columns, rows))
    columns = ("baseline", "accuracy", "points", "RAM bytes", "instructions", "fits")
    rows = [
        (
            b.name, f"{100 * b.measured.accuracy:.1f}",
            gain(*b.measured.gain_over(plan.analysis.head)),
            b.cost and b.cost.ram_bytes, b.cost and b.cost.instructions,
            "" if b.cost is None else "yes" if plan.budget.admits(b.cost) else "no",
        )
        for b in plan.baselines
    ]  # fmt: skip
    out().print(table("baselines", columns, rows))
    how = "the largest sum that fits" if plan.found.proved else "not proved the largest sum"
    out().print(f"learning rate: {plan.rate:g}, falling to 0", markup=False)
    out().print(f"largest sum: {plan.found.best} ({how})", markup=False)
    out().print(f"best measured: {plan.best.candidate}", markup=False)
    out().print(f"wrote {SCHEME}, {DATA}, {PICTURE} in {folder}", markup=False)

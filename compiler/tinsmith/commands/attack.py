"""The command that attacks a protected project."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from ..attack.artefacts import Artefacts, read_artefacts
from ..attack.chart import draw_attacks
from ..attack.samples import read_attack_samples
from ..attack.suite import Budget, Report, attack_network
from ..attack.torch_extra import load_torch
from ..trust.partition import join_graphs
from .console import out, print_json, progress, reported, table
from .options import AsJson, Project


@reported
def attack(
    project: Project,
    data: Annotated[
        Path, typer.Option("--data", metavar="F.npz", help="the attacker's samples x and labels y")
    ],
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="how often every attack runs")] = 3,
    steps: Annotated[
        int, typer.Option("--steps", min=2, help="of every training, of 64 samples each")
    ] = 300,
    scratch: Annotated[
        bool, typer.Option("--scratch/--no-scratch", help="train the architecture anew, too")
    ] = True,
    json: AsJson = False,
) -> None:
    """Attack a protected project with its own non-secure image: what its protection is worth.

    Writes attacks.json and attacks.svg into DIR. Needs the `train` extra.
    """
    load_torch()
    found = read_artefacts(project)
    train, test = read_attack_samples(data, found.plain)
    with progress(f"attacking {project}") as step:
        report = attack_network(
            found.plain,
            found.nonsecure,
            found.secure,
            join_graphs(found.nonsecure, found.secure),
            train,
            test,
            mode=found.mode,
            budget=Budget(seeds=seeds, steps=steps, scratch=scratch),
            progress=step,
        )
    written = report_data(report, found)
    text = msgspec.json.format(msgspec.json.encode(written), indent=2)
    (project / "attacks.json").write_bytes(text + b"\n")
    draw_attacks(report, project / "attacks.svg")
    if json:
        print_json(written)
    else:
        _show(report, found, project)


def report_data(report: Report, found: Artefacts) -> dict[str, Any]:
    """`attacks.json`."""
    outcomes = [{**asdict(o), "mean": o.mean, "spread": o.spread} for o in report.outcomes]
    return {
        **asdict(report),
        "chance": report.chance,
        "arrays_read_back": found.arrays,
        "bytes_read_back": found.bytes,
        "outcomes": outcomes,
    }


def _show(report: Report, found: Artefacts, project: Path) -> None:
    rows = [
        (
            o.attack,
            o.budget,
            o.samples or None,
            f"{o.mean:.1%}",
            f"± {o.spread:.1%}" if len(o.accuracy) > 1 else None,
            f"{sum(o.orders) / len(o.orders):.0%}" if o.orders else None,
        )
        for o in report.outcomes
    ]
    columns = ("attack", "with", "labels or queries", "accuracy", "", "order found")
    title = f"{report.model}, {report.mode}: {report.seeds} seeds, {report.steps} steps"
    out().print(table(title, columns, rows, left=2))
    out().print(
        f"authorised {report.victim:.1%}, chance {report.chance:.1%} of {report.test_samples:,} "
        f"samples; {found.arrays} arrays, {found.bytes:,} bytes read back from the image",
        markup=False,
    )
    out().print(f"wrote {project / 'attacks.json'}, {project / 'attacks.svg'}", markup=False)

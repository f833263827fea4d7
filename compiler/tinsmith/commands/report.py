"""The command that makes a page people look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..codegen.report_text import report_text
from ..errors import CompileError
from ..report_page.comparison import compare, comparison_text
from ..report_page.facts import Facts, add_errors, collect, facts_data, layer_lines
from ..report_page.page import render_page
from .console import out, print_json, progress, reported
from .options import AsJson, Project


@reported
def report(
    project: Project,
    other: Annotated[
        Path | None,
        typer.Argument(metavar="[DIR2]", help="another build, to compare with", show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", metavar="F.html", help="the page; by default DIR/report.html"),
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure/--no-measure", help="run it where its board runs here")
    ] = True,
    model: Annotated[
        Path | None,
        typer.Option("--float", metavar="MODEL", help="show what quantisation cost, against this"),
    ] = None,
    input_file: Annotated[
        Path | None, typer.Option("--input", metavar="F.npz", help="samples, for --float")
    ] = None,
    samples: Annotated[int, typer.Option("--samples", min=1, help="of F, at most")] = 8,
    text: Annotated[bool, typer.Option("--text", help="print it as text, write no page")] = False,
    json: AsJson = False,
) -> None:
    """Write one HTML page of what a build is and costs, or of what changed between two."""
    both: list[Facts] = []
    for folder in filter(None, (project, other)):
        with progress(f"measuring {folder}" if measure else f"reading {folder}"):
            both.append(collect(folder, measure=measure))
        if model is not None:
            with progress(f"comparing {folder} and {model}"):
                both[-1] = add_errors(both[-1], folder, model, _needed(input_file), samples)
    if json:
        builds = [facts_data(f) for f in both]
        print_json(builds[0] if other is None else {"a": builds[0], "b": builds[1]})
        return
    if text:
        typer.echo(_text(both), nl=False)
        return
    path = output or project / "report.html"
    try:
        path.write_text(render_page(*both), encoding="utf-8")
    except OSError as error:
        raise CompileError(f"cannot write {path}: {error.strerror}") from error
    out().print(f"wrote {path}", markup=False)


def _needed(input_file: Path | None) -> Path:
    if input_file is None:
        raise CompileError("--float compares on samples of your own", expected="--input F.npz")
    return input_file


def _text(both: list[Facts]) -> str:
    if len(both) == 2:
        return comparison_text(compare(*both), (both[0].folder, both[1].folder))
    lines = layer_lines(both[0])
    return report_text(both[0].report) + "".join(f"{line}\n" for line in ("", *lines) if lines)

"""The command that needs no options: everything is in the project file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..codegen.report import read_report
from ..errors import BadInput, CompileError
from ..project_file import FILE, Build, read_builds, run_build
from ..report_page.facts import collect
from ..report_page.page import render_page
from ..runner.compare import verify
from . import show
from .console import err, out, print_json, progress, reported, table
from .options import AsJson

_COLUMNS = ("build", "board", "", "flash", "RAM", "stack", "verified")


@reported
def build(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME…]", help="of builds; default: all")
    ] = None,
    file: Annotated[Path, typer.Option("--file", metavar="F.toml", help="the project file")] = Path(
        FILE
    ),
    json: AsJson = False,
) -> None:
    """Compile what tinsmith.toml says: all its builds, or those named."""
    builds = read_builds(file)
    chosen = names or list(builds)
    for name in chosen:
        if name not in builds:
            raise BadInput(f"{file} has no build {name!r}", expected=f"one of {', '.join(builds)}")
    rows: list[tuple[object, ...]] = []
    for name in chosen:
        verified = _one(name, builds[name])
        report = read_report(Path(builds[name].out))
        show.notes(report.notes, err())
        made = (report.flash_bytes, report.ram_bytes, report.stack_bytes)
        shown = "" if verified is None else f"{verified:,} samples"
        rows.append((name, report.board, builds[name].out, *made, shown))
    if json:
        print_json({n: show.report_data(read_report(Path(builds[n].out))) for n in chosen})
        return
    out().print(table(str(file), _COLUMNS, rows, 3))


def _one(name: str, entry: Build) -> int | None:
    """Compiles, verifies and reports as asked; how many samples were verified."""
    count = None
    with progress(f"building {name} for {entry.board}") as step:
        project = run_build(entry, progress=step)
    if entry.verify:
        with progress(f"verifying {name}") as step:
            result = verify(project.folder, entry.input, progress=lambda i, n: step(f"{i} of {n}"))
        result.check()
        count = result.samples
    if entry.report:
        with progress(f"measuring {name}"):
            page = render_page(collect(project.folder, measure=True))
        path = project.folder / "report.html"
        try:
            path.write_text(page, encoding="utf-8")
        except OSError as error:
            raise CompileError(f"cannot write {path}: {error.strerror}") from error
    return count

"""The command that measures models on boards."""

from __future__ import annotations

import json as encoder
from pathlib import Path
from typing import Annotated

import typer

from ..errors import CompileError
from ..lab.cell import CellResult
from ..lab.matrix import read_matrix
from ..lab.schedule import run_matrix
from ..lab.table import COLUMNS, TEXT_COLUMNS, as_data, as_markdown, outcome, row
from .console import err, out, print_json, progress, reported, table
from .options import AsJson


@reported
def lab(
    matrix: Annotated[
        Path, typer.Argument(metavar="MATRIX.toml", help="the models and the boards")
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", metavar="DIR", help="by default build/NAME beside the file"),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", min=1, help="cells at once; by default one for each processor"),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="measure again what has not changed, too")
    ] = False,
    json: AsJson = False,
) -> None:
    """Compile models for boards, write, verify and measure them there; one table of all.

    Writes DIR/lab.json and DIR/lab.md. Exit 1 when something failed.
    """
    folder = output or matrix.parent / "build" / matrix.stem
    cells = read_matrix(matrix, folder)
    with progress(f"lab {matrix.name}") as step:
        shown = err().is_terminal
        results = run_matrix(
            cells,
            jobs=jobs,
            fresh=fresh,
            done=lambda result: None if shown else _tell(result),
            running=lambda names, n: step(f"{n} of {len(cells)}, {', '.join(names)}"),
        )
    data = as_data(results)
    _write(folder / "lab.json", encoder.dumps(data, indent=2) + "\n")
    _write(folder / "lab.md", as_markdown(results))
    if json:
        print_json(data)
    else:
        out().print(table(str(matrix), COLUMNS, [row(r) for r in results], TEXT_COLUMNS))
        for result in results:
            if result.error is not None:
                text = f"error: {result.model} on {result.board}: {result.error}"
                err().print(text, markup=False)
    raise typer.Exit(0 if data["ok"] else 1)


def _tell(result: CellResult) -> None:
    """A line for every cell, where no terminal shows what is going on."""
    text = f"{result.model} on {result.board}: {outcome(result)}, {result.seconds:.1f} s"
    err().print(text, markup=False)


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CompileError(f"cannot write {path}: {error.strerror}") from error

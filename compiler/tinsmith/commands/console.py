"""What the commands share: tables, JSON, progress, and errors without tracebacks.

Results go to stdout, everything else to stderr, so that `--json` prints nothing but JSON on stdout.
"""

from __future__ import annotations

import functools
import json
import math
import os
import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar, cast

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from ..errors import CompileError

P = ParamSpec("P")
R = TypeVar("R")

DEBUG_VARIABLE = "TINSMITH_DEBUG"


def out() -> Console:
    """Results. As wide as its rows when nobody looks at a terminal, so that no cell is cut."""
    return Console(width=None if sys.stdout.isatty() else 200, highlight=False)


def err() -> Console:
    """Messages, progress and errors."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def reported(command: Callable[P, R]) -> Callable[P, R]:
    """Turns errors into text on stderr and the exit codes of `errors.py`."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except CompileError as error:
            err().print(error.render(), markup=False)
            raise typer.Exit(error.exit_code) from None
        except (typer.Exit, typer.Abort):
            raise
        except BrokenPipeError:
            # The reader of a pipe left; nothing more can be printed, not even at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        except Exception as error:
            if os.environ.get(DEBUG_VARIABLE):
                raise
            text = f"error: a defect of tinsmith: {type(error).__name__}: {error}"
            hint = f"  hint: please report it, with the traceback that {DEBUG_VARIABLE}=1 shows"
            err().print(f"{text}\n{hint}", markup=False)
            raise typer.Exit(1) from None

    return run


def print_json(data: Any) -> None:
    """One JSON document on stdout; numbers that JSON has no word for are null."""
    sys.stdout.write(json.dumps(_finite(data), indent=2, allow_nan=False) + "\n")


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in cast(dict[Any, Any], data).items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in cast(Sequence[Any], data)]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], left: int = 1
) -> Table:
    """A table whose first `left` columns are text and whose others are figures.

    Whole numbers are written with thousands separators; None is an empty cell.
    """
    made = Table(title=title or None, title_justify="left", box=None, header_style="bold")
    for index, column in enumerate(columns):
        made.add_column(column, justify="left" if index < left else "right", no_wrap=True)
    for row in rows:
        made.add_row(*(_cell(value) for value in row))
    return made


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    text = f"{value:,.2f}" if isinstance(value, float) else str(value)
    return text.replace("[", "\\[")


@contextmanager
def progress(text: str) -> Generator[Callable[[str], None]]:
    """Shows what is going on, on a terminal only. The callback says what the current step is."""
    console = err()
    if not console.is_terminal:
        yield lambda step: None
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(text)
        yield lambda step: bar.update(task, description=f"{text}: {step}")

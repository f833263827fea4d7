"""Takes what `tinsmith tune` found for a board: tiles of kernels from TVM, or costs of others."""

from __future__ import annotations

import re
from functools import cache
from os import PathLike
from pathlib import Path

from ..errors import BadInput
from ..kernels.costs import kernels_digest
from ..machine.board import Board
from ..machine.measured import Measured, read_measured, with_measured
from ..machine.tuned import read_tuned, with_tiles
from .compilers import find_compiler
from .programs import run_program


def with_tuned(board: Board, path: str | PathLike[str] | None) -> Board:
    """The board with what is in the file; as it is without one. Raises BadInput, MissingTool."""
    if path is None:
        return board
    if board.target.tvm is not None or board.is_host:
        return with_tiles(board, read_tuned(Path(path)))
    return with_measured(
        board, read_measured(Path(path)), compiler_version(board), kernels_digest()
    )


def known_measurements(board: Board, path: Path) -> Measured:
    """What a file holds that is still true of the board; nothing without a file."""
    now = Measured(board.target.name, compiler_version(board), kernels_digest(), ())
    if not path.is_file():
        return now
    before = read_measured(path)
    try:
        with_measured(board, before, now.compiler, now.kernels)
    except BadInput:
        return now
    return before


def compiler_version(board: Board) -> str:
    """The compiler's name and version, "arm-none-eabi-gcc 12.2.1". Raises MissingTool."""
    return _version(find_compiler(board))


@cache
def _version(compiler: str) -> str:
    done = run_program([compiler, "-dumpfullversion"], Path.cwd())
    found = re.search(r"[0-9][0-9.]*", done.stdout)
    return f"{Path(compiler).name} {found.group() if found else 'unknown'}"

"""What of a compiled project a product takes: sources, headers, and how to compile them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..codegen.report import read_report
from ..codegen.report_model import Report
from ..errors import CompileError
from ..machine.board import Board, load_board

_OF_THE_CORE = ("-m",)  # the product's own build says which core it is for
_OF_THE_BUILD = ("-O", "-ffunction-sections", "-fdata-sections", "-g")


@dataclass(frozen=True)
class Contents:
    """The parts of a package.

    headers, sources: path in the package's include and source folder → file. Headers of the model
    are beside those of the runtime, in `tinsmith/`. core_flags: what the project was compiled for.
    code_flags: what its sources need from GCC besides. needs_math: links with libm.
    """

    report: Report
    board: Board
    headers: dict[str, Path]
    sources: dict[str, Path]
    core_flags: tuple[str, ...]
    code_flags: tuple[str, ...]
    needs_math: bool

    @property
    def name(self) -> str:
        """The prefix of the C API."""
        return self.report.c_name


def read_contents(folder: Path) -> Contents:
    """The contents of a compiled project.

    Raises CompileError for a folder that is none, a protected project, and one whose kernels are
    an object of TVM or of a GPU, which packages of sources cannot hold.
    """
    report = read_report(folder)
    board = load_board(report.board, report.target)
    if report.trust is not None:
        raise CompileError(
            f"{folder} is protected: it is two linked images, not sources",
            hint="`tinsmith seal` takes the program of a product",
        )
    if board.target.tvm is not None or board.target.cuda:
        raise CompileError(
            f"the kernels of {board.name} are an object that TVM compiled",
            expected="a project whose kernels are C",
            hint="link the project with its own CMakeLists.txt",
        )
    name = report.c_name
    include = folder / "runtime" / "include" / "tinsmith"
    headers = {f"{name}.h": folder / f"{name}.h"}
    headers |= {f"tinsmith/{p.name}": p for p in sorted(include.glob("*.h"))}
    own = (f"{name}.c", f"{name}_weights.c", f"{name}_weights.h")
    sources = {file: folder / file for file in own}
    sources |= {p.name: p for p in sorted((folder / "runtime" / "src").glob("*.[ch]"))}
    for path in (*headers.values(), *sources.values()):
        if not path.is_file():
            raise CompileError(f"{folder} lacks {path.name}", hint="compile it again")
    flags = board.target.cflags
    return Contents(
        report,
        board,
        headers,
        sources,
        tuple(f for f in flags if f.startswith(_OF_THE_CORE)),
        tuple(f for f in flags if not f.startswith((*_OF_THE_CORE, *_OF_THE_BUILD))),
        "<math.h>" in (folder / f"{name}.c").read_text(),
    )

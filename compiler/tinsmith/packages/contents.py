"""What of a compiled project a product takes: sources, headers, and how to compile them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ..codegen.report import read_report
from ..codegen.report_model import Report
from ..errors import CompileError
from ..machine.board import Board, load_board

_OF_THE_CORE = ("-m",)  # the product's own build says which core it is for
_OF_THE_BUILD = ("-O", "-ffunction-sections", "-fdata-sections", "-g")
_DEFINED = re.compile(r"^(?!static\b|typedef\b)[a-z_][\w ]*[ *](ts_\w+)\(", re.MULTILINE)
_FLOAT = re.compile(r"\bfloat\b")
# Products choose their own options, and GCC fuses multiplications with additions by default where
# the core can. It has no other way to say so in a source than its own pragma.
_EXACT_FLOAT = b"""/* Products and sums are rounded each on its own: fused ones give other bits. */
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off")
#endif

"""
_FLOAT_ASSEMBLY = re.compile(r'"[^"\n]*\bv\w+\.f32')


@dataclass(frozen=True)
class File:
    """A file as the package has it. runtime: or of the model."""

    data: bytes
    runtime: bool


@dataclass(frozen=True)
class Contents:
    """The parts of a package.

    headers, sources: path in the package's include and source folder → file. Headers of the model
    are beside those of the runtime, in `tinsmith/`. core_flags: what the project was compiled for.
    code_flags: what its sources need from GCC besides. needs_math: links with libm. needs_fpu: some
    kernels are instructions of the FPU, which a build without one does not assemble.
    """

    report: Report
    board: Board
    headers: dict[str, File]
    sources: dict[str, File]
    core_flags: tuple[str, ...]
    code_flags: tuple[str, ...]
    needs_math: bool
    needs_fpu: bool

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
    headers = {f"{name}.h": _file(folder / f"{name}.h")}
    headers |= {f"tinsmith/{p.name}": _file(p, runtime=True) for p in sorted(include.glob("*.h"))}
    own = (f"{name}.c", f"{name}_weights.c", f"{name}_weights.h")
    sources = {file: _file(folder / file) for file in own}
    shared = sorted((folder / "runtime" / "src").glob("*.[ch]"))
    sources |= {p.name: _file(p, runtime=True) for p in shared}
    flags = board.target.cflags
    code = sources[f"{name}.c"].data.decode()
    if _FLOAT.search(code):
        sources[f"{name}.c"] = File(_EXACT_FLOAT + code.encode(), runtime=False)
    return Contents(
        report,
        board,
        headers,
        sources,
        tuple(f for f in flags if f.startswith(_OF_THE_CORE)),
        tuple(f for f in flags if not f.startswith((*_OF_THE_CORE, *_OF_THE_BUILD))),
        needs_math="<math.h>" in code,
        needs_fpu=board.target.elf == "arm" and bool(_FLOAT_ASSEMBLY.search(code)),
    )


def _file(path: Path, *, runtime: bool = False) -> File:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CompileError(
            f"{path} cannot be read: {error.strerror}", hint="compile the project again"
        ) from error
    return File(_weak(data) if runtime and path.suffix == ".c" else data, runtime)


def _weak(data: bytes) -> bytes:
    """The runtime's source with weak functions: a product may take several packages, each with its
    copy, and build systems that link objects instead of archives would find them twice."""
    names = dict.fromkeys(_DEFINED.findall(data.decode()))
    head = "/* Weak, so that several packages can be in one product. */\n"
    return f"{head}{''.join(f'#pragma weak {n}{chr(10)}' for n in names)}\n".encode() + data

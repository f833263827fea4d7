"""Compiles a project's C for its board: warnings are errors, objects in parallel, then the link."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..errors import DoesNotFit, InternalError
from ..machine.board import Board
from .compilers import find_compiler, find_linker
from .nvcc import embed_kernels
from .programs import run_program, tail

# Training rounds after every operation, as its numpy meaning does (gcc's -std=c11 does so anyway).
_EXACT_FLOAT = "-ffp-contract=off"
WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror")
_INCLUDES = (".", "runtime/include", "runtime", "harness")
_ONLY_BOARD, _ONLY_TWIN = ("harness", "board"), ("harness", "twin")  # sources of one of the two
_STAMP = "sources.sha256"  # beside the ELF: what it was built from
_OVERFLOW = re.compile(r"region `(\w+)' overflowed by (\d+) bytes")


def firmware(project_dir: Path, *, trace: bool = False, twin: bool = False) -> Path:
    """Where `build` puts an ELF. `twin`: the one that runs in a physical board's emulator."""
    folder = project_dir / "build" / ("trace" if trace else "")
    return folder / ("twin.elf" if twin else "firmware.elf")


def build(
    project_dir: Path,
    board: Board,
    *,
    trace: bool = False,
    extra_cflags: Sequence[str] = (),
    objects: Sequence[Path] = (),
    peak_node: str | None = None,
) -> Path:
    """Compile and link; returns the ELF for `board` (its twin's, if any, lies beside it).

    Sources are the project's own `.c`, `runtime/` and `harness/` (see `harness.write_harness`).
    Beside the objects lie `.su` files with stack sizes, beside an ELF its `.map`.
    With `trace` the model reports every node's output. `extra_cflags` go to compiler and linker,
    `objects`, relative to the project, to the linker.
    `peak_node` is named when RAM does not suffice.

    Raises MissingTool without the compiler, DoesNotFit when the board's memory is too small,
    InternalError with the compiler's words when generated code does not compile.
    """
    elf = firmware(project_dir, trace=trace)
    if board.target.cuda:
        embed_kernels(project_dir, board.target.cuda)
    output = elf.parent.relative_to(project_dir) / "obj"
    flags = [*extra_cflags, *(["-DTS_TRACE"] if trace else [])]
    sources = source_files(project_dir)
    outputs = compile_sources(project_dir, board, sources, output, _INCLUDES, flags)
    own, others = _by_machine(sources, outputs)
    more = [*compiled_kernels(project_dir), *objects]
    link_elf(project_dir, board, [*own, *more], elf, flags=extra_cflags, peak_node=peak_node)
    if board.twin:
        twin = firmware(project_dir, trace=trace, twin=True)
        link_elf(
            project_dir,
            board,
            [*others, *more],
            twin,
            script="link_twin.ld",
            flags=extra_cflags,
            peak_node=peak_node,
        )
    if not trace:
        elf.with_name(_STAMP).write_text(_digest(project_dir))
    return elf


def _by_machine(sources: Sequence[Path], objects: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """The objects of the board's firmware, and of its twin's."""
    pairs = list(zip(sources, objects, strict=True))
    own = [o for s, o in pairs if s.parts[:2] != _ONLY_TWIN]
    return own, [o for s, o in pairs if s.parts[:2] != _ONLY_BOARD]


def compile_sources(
    project_dir: Path,
    board: Board,
    sources: Sequence[Path],
    objects: Path,
    includes: Sequence[str],
    flags: Sequence[str] = (),
) -> list[Path]:
    """Compile `sources` into the folder `objects`, which is emptied; all paths are relative to
    `project_dir`. Raises as `build`."""
    target = board.target
    cc = find_compiler(board)
    shutil.rmtree(project_dir / objects, ignore_errors=True)
    (project_dir / objects).mkdir(parents=True)
    # Through pipes: of a secure image nothing may stay in a folder for temporary files.
    command = [cc, "-pipe", "-std=c11", _EXACT_FLOAT, *target.cflags, *flags, *WARNINGS]
    command.append("-fstack-usage")
    command += [f"-I{folder}" for folder in includes if (project_dir / folder).is_dir()]
    outputs = [objects / "_".join(source.with_suffix(".o").parts) for source in sources]

    def compile_one(source: Path, output: Path) -> None:
        done = run_program([*command, "-c", source, "-o", output], project_dir)
        if done.returncode != 0:
            raise InternalError(
                f"{Path(cc).name} cannot compile {source} for {board.name}:\n{tail(done.stderr)}"
            )

    with ThreadPoolExecutor(max_workers=os.cpu_count() or 2) as pool:
        list(pool.map(compile_one, sources, outputs))
    return outputs


def rebuild_if_changed(project_dir: Path, board: Board) -> None:
    """Build again when a source is not what the firmware was built from. Raises as `build` does."""
    stamp = firmware(project_dir).with_name(_STAMP)
    if stamp.is_file() and stamp.read_text() != _digest(project_dir):
        build(project_dir, board)


def source_files(project_dir: Path) -> list[Path]:
    """What is compiled, relative to the project."""
    found = [*project_dir.glob("*.c")]
    for folder in ("runtime", "harness"):
        found += (project_dir / folder).rglob("*.c")
    return sorted(path.relative_to(project_dir) for path in found)


def compiled_kernels(project_dir: Path) -> list[Path]:
    """Objects that are part of the project, relative to it: the kernels that TVM compiled."""
    return sorted(path.relative_to(project_dir) for path in project_dir.glob("*_kernels.o"))


def _digest(project_dir: Path) -> str:
    """Of everything that goes into the firmware: C, headers and linker scripts."""
    found = [*project_dir.glob("*.[ch]"), *project_dir.glob("*_kernels.*")]
    for folder in ("runtime", "harness"):
        found += [path for path in (project_dir / folder).rglob("*") if path.is_file()]
    digest = hashlib.sha256()
    for path in sorted(found):
        digest.update(f"{path.relative_to(project_dir)}\n{path.stat().st_size}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def link_elf(
    project_dir: Path,
    board: Board,
    objects: Sequence[Path],
    elf: Path,
    *,
    script: str = "link.ld",
    flags: Sequence[str] = (),
    peak_node: str | None = None,
) -> None:
    """Link `objects`, relative to `project_dir`, with a script of its `harness/`.

    Raises as `build`. flags: of the link besides the target's. peak_node: as there.
    """
    target = board.target
    cc = find_linker(board)
    output = elf.relative_to(project_dir)
    argv: list[str | Path] = [cc, *target.cflags, *flags, *objects, "-o", output]
    argv += [f"-Wl,-Map={output.with_suffix('.map')}"]
    if not board.is_host:
        argv += ["-T", Path("harness") / script]
    if (project_dir / "harness" / "ts_link.h").is_file():
        argv.append("-Wl,--build-id=sha1")  # with which the firmware says what it is
    done = run_program([*argv, *target.ldflags, *board.ldflags], project_dir)
    if done.returncode == 0:
        return
    overflows = _OVERFLOW.findall(done.stderr)
    if not overflows:
        raise InternalError(f"linking for {board.name} failed:\n{tail(done.stderr)}")
    raise _does_not_fit(board, {name: int(count) for name, count in overflows}, peak_node)


def _does_not_fit(board: Board, overflow: Mapping[str, int], peak_node: str | None) -> DoesNotFit:
    parts: list[str] = []
    for name, count in overflow.items():
        region = board.region(name)
        if region is None:
            raise InternalError(f"board {board.name} has no region {name!r}")
        kind = f" (with {board.stack_bytes:,} B of stack)" if name == "ram" else ""
        parts.append(
            f"{region.bytes + count:,} B of {name}{kind}, {count:,} B more than the "
            f"{region.bytes:,} B of {board.name}"
        )
    return DoesNotFit(
        f"the firmware needs {' and '.join(parts)}",
        node=peak_node if "ram" in overflow else None,
        hint="take a larger board or a smaller model",
    )

"""Firmware for tests: many models in one ELF for a board, run in its emulator."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from tinsmith import paths
from tinsmith.codegen.emit import emit
from tinsmith.codegen.project import write_project
from tinsmith.codegen.report import make_report, write_report
from tinsmith.ir.dtypes import Array
from tinsmith.ir.graph import Graph
from tinsmith.machine.board import Board, load_board
from tinsmith.runner.execute import run_samples
from tinsmith.runner.protocol import Sample
from tinsmith.toolchain.compile_c import build, firmware
from tinsmith.toolchain.firmware import Firmware, build_firmware
from tinsmith.toolchain.harness import ModelBinding, write_harness

from .host_c import Job, program, write

LOOP_SOURCES = Path(__file__).resolve().parent / "c"
LOOP_MODEL = ModelBinding("loop_model", 1, 1)


def loop_firmware(folder: Path, board: Board) -> Path:
    """A firmware around `c/loop_model.c`, which executes as many instructions as it is told."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("loop_model.c", "loop_model.h"):
        shutil.copy(LOOP_SOURCES / name, folder)
    _add_runtime(folder)
    write_harness(folder, board, [LOOP_MODEL])
    build(folder, board)
    return firmware(folder, twin=bool(board.twin))


def build_jobs(
    folder: Path, board: Board, jobs: Sequence[Job], files: Mapping[str, str] | None = None
) -> Path:
    """One firmware with the models of all jobs; returns the ELF that runs here.

    files: C that was emitted for them before.
    """
    for job in jobs if files is None else ():
        write(folder, emit(job.program))
    write(folder, files or {})
    _add_runtime(folder)
    write_harness(folder, board, [ModelBinding.of(job.program.graph) for job in jobs])
    build(folder, board)
    return firmware(folder, twin=bool(board.twin))


def run_jobs(
    folder: Path, board: Board, jobs: Sequence[Job], files: Mapping[str, str] | None = None
) -> list[list[tuple[Array, ...]]]:
    """As `host_c.run_jobs`, on a board: per job and sample the outputs. files: as `build_jobs`."""
    elf = build_jobs(folder, board, jobs, files)
    types = [[v.type for v in job.program.graph.outputs] for job in jobs]
    samples = [Sample(tuple(s), i) for i, job in enumerate(jobs) for s in job.samples]
    results = run_samples(elf, board, types, samples)
    assert all(r.status == 0 for r in results)
    rows = iter(r.outputs for r in results)
    return [[next(rows) for _ in job.samples] for job in jobs]


def compile_project(folder: Path, graph: Graph, board_name: str) -> Firmware:
    """What `compile` leaves behind, for a graph whose integer nodes are lowered already."""
    board = load_board(board_name)
    planned = program(graph, board.target)
    write_project(folder, planned)
    write_report(folder, make_report(planned, board))
    return build_firmware(folder, planned.graph, board, peak_node=planned.plan.peak_node)


def _add_runtime(folder: Path) -> None:
    for part in ("include", "src"):
        shutil.copytree(paths.RUNTIME_C / part, folder / "runtime" / part, dirs_exist_ok=True)

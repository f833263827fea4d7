"""A compiled project as the runner sees it, and how samples and answers look to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from os import PathLike
from pathlib import Path

import numpy as np

from ..codegen.project import read_graph
from ..codegen.report import read_report
from ..errors import CompileError, InternalError, MissingTool, Refused
from ..ir.dtypes import Array
from ..ir.graph import Graph
from ..machine.board import Board, Counter, emulated, load_board
from ..quant.samples import load_samples, match_samples
from ..serial_link.port import current_port
from ..toolchain.compile_c import firmware
from ..trust.manifest import check_manifest
from .protocol import GPU_TEXTS, REFUSED, Result, Sample

Inputs = Mapping[str, Array] | Array | str | Path


@dataclass(frozen=True)
class Project:
    """A compiled project, read back.

    Attributes:
        graph: what the device computes, for the oracle.
        protected: it has a secure and a non-secure image.
        start: commands that give the device what it has learnt, before anything else.
        commit: the counter of its store that they come from; 0 for what was compiled.
    """

    folder: Path
    graph: Graph
    board: Board
    protected: bool = False
    start: tuple[Sample, ...] = ()
    commit: int = 0

    def elf(self, *, trace: bool = False) -> Path:
        """The ELF that runs here: for a board with a twin, the twin's."""
        return firmware(self.folder, trace=trace, twin=bool(self.board.twin))


def open_project(folder: str | PathLike[str]) -> Project:
    """Raises CompileError when the folder is not a compiled project."""
    path = Path(folder)
    report = read_report(path)
    board = load_board(report.board, report.target)
    return Project(path, read_graph(path), board, report.trust is not None)


def device_samples(graph: Graph, inputs: Inputs) -> list[Array]:
    """Samples as the device takes them: [samples, *shape] per graph input.

    inputs: a `.npz` file, arrays by input name, or one array for a model with one input; see
    `quant.samples` for the shapes and types accepted. Raises BadInput.
    """
    if isinstance(inputs, str | Path):
        return load_samples(inputs, graph)
    named = inputs if isinstance(inputs, Mapping) else {"x": inputs}
    return match_samples(named, graph)


def check_images(project: Project) -> None:
    """Raises NotAuthentic when the images of a protected project are not those of its manifest,
    CompileError when they cannot run here."""
    check_manifest(project.folder)
    if project.board.twin and runs_here():
        raise CompileError(
            f"the images of {project.board.name} do not run here: its twin divides its memory "
            "in another way",
            hint=f"protect it for {project.board.twin} too, and run that",
        )


def count_instructions(board: Board, results: list[Result]) -> Array | None:
    """Executed instructions of each run, to the nearest; None where the board cannot count them."""
    counter = counter_of(board)
    if counter.kind in ("none", "clock", "cycles"):
        return None
    ratio = Fraction(counter.instructions, counter.ticks)
    return np.array([round(r.ticks * ratio) for r in results], np.int64)


def count_cycles(board: Board, results: list[Result]) -> Array | None:
    """Cycles of the core in each run; None where they are not what the board counts."""
    if counter_of(board).kind != "cycles":
        return None
    return np.array([r.ticks for r in results], np.int64)


def counter_of(board: Board) -> Counter:
    """What counts where a project of the board runs now: itself at a port, else its emulator."""
    return board.counter if board.twin and not runs_here() else emulated(board).counter


def runs_here() -> bool:
    """Whether a project is executed on this machine, and not on what is at a port."""
    port = current_port()
    return port is None or port.emulated


def check_status(results: Sequence[Result]) -> None:
    """Raises InternalError when a run did not succeed, Refused when it was not authorised,
    MissingTool without the GPU that it needs."""
    for index, result in enumerate(results):
        if result.status == REFUSED:
            raise Refused(
                f"sample {index}: the secure world refused to authorise the inference",
                hint="its quota of queries per boot is used up, or the calls were out of order",
            )
        check_gpu(result)
        if result.status != 0:
            raise InternalError(f"sample {index}: the model returned status {result.status}")


def check_gpu(result: Result) -> None:
    """Raises MissingTool when there was not the GPU that the model needs."""
    if result.status in GPU_TEXTS:
        raise MissingTool(
            f"the model cannot run here: {GPU_TEXTS[result.status]}",
            hint="run it on a machine with the GPU it was compiled for; compiling needs none",
        )

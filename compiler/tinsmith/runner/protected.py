"""What protection costs: a protected project measured beside its unprotected model.

The model is compiled for the same board as if nothing were secret, and both run the same sample.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ..codegen.project import (
    NONSECURE_FOLDER,
    SAMPLE_FILE,
    SECURE_FOLDER,
    read_training_graph,
    write_project,
)
from ..codegen.report import aim_of, read_report
from ..codegen.schedule_model import schedule_part
from ..errors import CompileError
from ..ir.graph import Stage
from ..pass_manager import PassContext
from ..toolchain.firmware import build_firmware
from ..toolchain.harness import harness_of, with_uart
from ..trust.images import build_worlds, read_backward, read_locked_training, read_worlds
from .project import Project, runs_here


@contextmanager
def unprotected(project: Project) -> Generator[Project]:
    """The model of a protected project compiled for its board, in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="tinsmith-") as temporary:
        folder = Path(temporary)
        context, learns = PassContext(), bool(project.graph.updates)
        graph = replace(project.graph, stage=Stage.TRAINING if learns else Stage.QUANTIZED)
        aim = aim_of(read_report(project.folder))
        program = schedule_part(graph, project.board, context, aim)
        train = None
        if learns:
            graph = replace(read_training_graph(project.folder), stage=Stage.TRAINING)
            train_program = schedule_part(graph, project.board, context, aim)
            program = replace(program, train=train_program)
            train = program.train.graph if program.train else None
        write_project(folder, program)
        harness, baud = harness_of(project.folder / NONSECURE_FOLDER)
        board = with_uart(project.board, harness, baud)
        build_firmware(folder, program.graph, board, train=train, harness=harness)
        shutil.copy(project.folder / SAMPLE_FILE, folder)
        yield Project(folder, program.graph, project.board)


@contextmanager
def traced(project: Project) -> Generator[Project]:
    """The pair of a protected project built with a trace, in a temporary folder.

    Its graph is that of the non-secure image, which is what the trace counts. Raises CompileError
    at the port of a board: the images there are those of the project.
    """
    if not runs_here():
        raise CompileError(
            "the parts of a protected project are measured in the emulator alone",
            hint="leave out --port, or say --port qemu",
        )
    with tempfile.TemporaryDirectory(prefix="tinsmith-") as temporary:
        folder = Path(temporary)
        for world in (NONSECURE_FOLDER, SECURE_FOLDER):
            shutil.copytree(project.folder / world, folder / world)
        shutil.copy(project.folder / SAMPLE_FILE, folder)
        nonsecure, secure = read_worlds(folder)
        train = read_locked_training(folder)
        harness, baud = harness_of(folder / NONSECURE_FOLDER)
        build_worlds(
            folder, with_uart(project.board, harness, baud), nonsecure, secure,
            quota=None, trace=True, train=train, backward=read_backward(folder), harness=harness,
        )  # fmt: skip
        yield Project(folder, nonsecure, project.board)

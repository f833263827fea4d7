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
from ..ir.graph import Stage
from ..pass_manager import PassContext
from ..toolchain.firmware import build_firmware
from ..trust.images import build_worlds, read_backward, read_locked_training, read_worlds
from .project import Project


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
        build_firmware(folder, program.graph, project.board, train=train)
        shutil.copy(project.folder / SAMPLE_FILE, folder)
        yield Project(folder, program.graph, project.board)


@contextmanager
def traced(project: Project) -> Generator[Project]:
    """The pair of a protected project built with a trace, in a temporary folder.

    Its graph is that of the non-secure image, which is what the trace counts.
    """
    with tempfile.TemporaryDirectory(prefix="tinsmith-") as temporary:
        folder = Path(temporary)
        for world in (NONSECURE_FOLDER, SECURE_FOLDER):
            shutil.copytree(project.folder / world, folder / world)
        shutil.copy(project.folder / SAMPLE_FILE, folder)
        nonsecure, secure = read_worlds(folder)
        train = read_locked_training(folder)
        build_worlds(
            folder, project.board, nonsecure, secure,
            quota=None, trace=True, train=train, backward=read_backward(folder),
        )  # fmt: skip
        yield Project(folder, nonsecure, project.board)

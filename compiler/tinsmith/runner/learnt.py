"""A project that has learnt, as its device starts: with what its store holds."""

from __future__ import annotations

from dataclasses import replace
from os import PathLike

from ..codegen.project import TRAINING_FILE
from ..toolchain.compile_c import rebuild_if_changed
from .project import Project, open_project
from .protocol import Command, Sample
from .store import DeviceStore
from .training import open_training


def boot(folder: str | PathLike[str], *, fresh: bool = False) -> Project:
    """The project with what it has committed, in `start` and in the constants of its graph.

    fresh: with what was compiled; so is a project that has never committed, or does not learn.
    Raises CompileError for a folder that is no project, or a store of another model.
    """
    project = open_project(folder)
    if fresh or not (project.folder / TRAINING_FILE).is_file():
        return project
    rebuild_if_changed(project.folder, project.board)
    training = open_training(folder)
    store = DeviceStore(training)
    if not (store.flash.is_file() and project.elf().is_file()):
        return project
    state, counter = store.load()
    if not counter:
        return project
    learnt = {v.name: array for v, array in state.items()}
    graph = project.graph
    changed = {v: learnt[v.name] for v in graph.initializers if v.name in learnt}
    return replace(
        project,
        graph=replace(graph, initializers={**graph.initializers, **changed}),
        start=(Sample((training.pack(state),), command=Command.SET_STATE),),
        commit=counter,
    )

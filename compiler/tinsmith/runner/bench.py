"""Measures a compiled project on its emulator: instructions of one inference, and per node."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from ..codegen.project import SAMPLE_FILE
from ..codegen.report import Report, read_report, write_report
from ..errors import CompileError
from ..ir.dtypes import Array
from ..ir.graph import Node
from ..machine.board import emulated
from ..toolchain.compile_c import build
from .execute import trace_sample
from .protocol import Sample
from .run import Project, device_samples, open_project, run_project


@dataclass(frozen=True)
class NodeProfile:
    """instructions: executed for this node, to the resolution of the counter."""

    node: Node
    instructions: int


def bench(folder: str | Path) -> Report:
    """Run the embedded sample and write `instructions_per_inference` into the report.

    It stays None on the host, where instructions are not counted. Raises as `run` does.
    """
    project = open_project(folder)
    result = run_project(project, embedded_sample(project))
    report = read_report(project.folder)
    report.instructions_per_inference = result.instructions_per_inference
    write_report(project.folder, report)
    return report


def profile(folder: str | Path) -> list[NodeProfile]:
    """Instructions of every node, in order, on the embedded sample; builds with a trace.

    Raises CompileError on a board that does not count instructions.
    """
    project = open_project(folder)
    counter = emulated(project.board).counter
    if counter.kind == "none":
        raise CompileError(f"board {project.board.name} does not count instructions")
    build(project.folder, project.board, trace=True)
    graph = project.graph
    types = [v.type for v in graph.outputs]
    sample = Sample(tuple(a[0] for a in embedded_sample(project)))
    ticks = np.zeros(len(graph.nodes), np.int64)
    for record in trace_sample(project.elf(trace=True), project.board, types, sample):
        ticks[record.node] += record.ticks
    ratio = Fraction(counter.instructions, counter.ticks)
    return [
        NodeProfile(node, round(int(t) * ratio)) for node, t in zip(graph.nodes, ticks, strict=True)
    ]


def embedded_sample(project: Project) -> list[Array]:
    """The sample of the model's self-test, [1, *shape] per graph input in the device's layout."""
    return device_samples(project.graph, project.folder / SAMPLE_FILE)

"""Measures a compiled project: instructions in its emulator, or time on this machine; per node."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from ..codegen.project import SAMPLE_FILE
from ..codegen.report import Report, TrustReport, read_report, write_report
from ..errors import CompileError
from ..ir.dtypes import Array
from ..ir.graph import Node
from ..machine.board import Counter
from ..toolchain.compile_c import build
from ..trust.manifest import check_manifest
from .execute import trace_sample, trace_sequence
from .latency import has_clock, measure_latency, node_times
from .project import Project, counter_of, device_samples, open_project, runs_here
from .protected import traced, unprotected
from .protocol import Sample, TraceRecord
from .run import run_project
from .training import TrainingProject, open_training, train_project

GATEWAY = "authorize"  # the operator that enters the secure world
_BACK = "authorize_gradient"  # and in a training step the second time
_RATE = 2.0**-10  # of the steps that are measured; their cost does not depend on it


@dataclass(frozen=True)
class NodeProfile:
    """instructions: executed for this node, to the resolution of the counter; on a board with a
    clock None, and microseconds is the median time instead; on a physical board at a port None, and
    cycles is what its core took."""

    node: Node
    instructions: int | None
    microseconds: float | None = None
    cycles: int | None = None


def bench(folder: str | Path, *, threads: int | None = None) -> Report:
    """Run the embedded sample and write `instructions_per_inference` into the report; of a model
    that learns also `train_step_instructions`.

    They stay None on the host, where instructions are not counted. On a board with a clock that is
    this machine's own kind, `latency_us` is measured, with so many threads; on a physical board at
    a port, `cycles_per_inference`. Raises as `run` does.
    """
    project = open_project(folder)
    sample = embedded_sample(project)
    result = run_project(project, sample)
    report = read_report(project.folder)
    report.instructions_per_inference = result.instructions_per_inference
    report.cycles_per_inference = result.cycles_per_inference
    if has_clock(project):
        latency = measure_latency(project, sample, threads=threads)
        report.latency_us = round(latency.median_us, 2)
        report.latency_threads = latency.threads
    whole = report.trust is None or runs_here()  # at a port there is the pair alone
    if report.trust is not None and whole and result.instructions_per_inference is not None:
        _measure_protection(project, report, report.trust, result.instructions_per_inference)
    if report.train_nodes:
        report.train_step_instructions = _train_step(project, sample)
        if report.trust is not None and whole and report.train_step_instructions is not None:
            gates = [p for p in profile_step(folder) if p.node.op.name in (GATEWAY, _BACK)]
            report.train_secure_instructions = _total(gates)
    write_report(project.folder, report)
    return report


def profile(folder: str | Path) -> list[NodeProfile]:
    """Instructions or time of every node, in order, on the embedded sample; builds with a trace.

    Of a protected project the nodes of the non-secure image: an `authorize` is all that the secure
    world does for it. Raises CompileError on a board that measures neither here.
    """
    project = open_project(folder)
    if has_clock(project) and not project.protected:
        build(project.folder, project.board, trace=True)
        times = node_times(project, embedded_sample(project)) / 1e3
        pairs = zip(project.graph.nodes, times, strict=True)
        return [NodeProfile(node, None, round(float(us), 3)) for node, us in pairs]
    _counter(project)
    if project.protected:
        check_manifest(project.folder)
        with traced(project) as pair:
            return _profile(pair, pair.elf(trace=True))
    build(project.folder, project.board, trace=True)
    return _profile(project, project.elf(trace=True))


def _profile(project: Project, elf: Path) -> list[NodeProfile]:
    graph = project.graph
    types = [v.type for v in graph.outputs]
    sample = Sample(tuple(a[0] for a in embedded_sample(project)))
    records = trace_sample(elf, project.board, types, sample, data=False)
    return _by_node(graph.nodes, records, _counter(project))


def _measure_protection(project: Project, report: Report, trust: TrustReport, total: int) -> None:
    """Fill in what the secure world executes, and what the unprotected model does."""
    nodes = profile(project.folder)
    report.secure_instructions = _total(p for p in nodes if p.node.op.name == GATEWAY)
    with unprotected(project) as plain:
        report.plain_instructions = run_project(
            plain, embedded_sample(plain)
        ).instructions_per_inference
        build(plain.folder, plain.board, trace=True)
        costs = _profile(plain, plain.elf(trace=True))
    report.bridge_instructions = _total(p for p in costs if p.node.name in trust.bridge)
    if report.plain_instructions is not None:
        report.overhead_instructions = total - report.plain_instructions


def _total(nodes: Iterable[NodeProfile]) -> int:
    return sum(p.instructions or 0 for p in nodes)


def _counter(project: Project) -> Counter:
    counter = counter_of(project.board)
    if counter.kind == "clock":
        raise CompileError(
            f"board {project.board.name} is emulated here: its times are not measured",
            hint="measure on a machine of its kind",
        )
    if counter.kind == "none":
        raise CompileError(f"board {project.board.name} does not count instructions")
    return counter


def _by_node(
    nodes: Sequence[Node], records: Sequence[TraceRecord], counter: Counter
) -> list[NodeProfile]:
    ticks = np.zeros(len(nodes), np.int64)
    for record in records:
        ticks[record.node] += record.ticks
    if counter.kind == "cycles":
        return [NodeProfile(n, None, cycles=int(t)) for n, t in zip(nodes, ticks, strict=True)]
    ratio = Fraction(counter.instructions, counter.ticks)
    return [NodeProfile(n, round(int(t) * ratio)) for n, t in zip(nodes, ticks, strict=True)]


def profile_step(folder: str | Path) -> list[NodeProfile]:
    """Instructions of every node of a training step, as `profile`."""
    training = open_training(folder)
    project = training.project
    _counter(project)
    if project.protected:
        with traced(project) as pair:
            return _profile_step(training, pair.elf(trace=True))
    build(project.folder, project.board, trace=True)
    return _profile_step(training, project.elf(trace=True))


def _profile_step(training: TrainingProject, elf: Path) -> list[NodeProfile]:
    project = training.project
    label = training.graph.inputs[-2].type
    given = np.zeros((2, *label.shape), label.dtype.numpy)
    rows = [np.repeat(a, 2, axis=0) for a in embedded_sample(project)]
    commands, types = training.steps(rows, given, np.full(2, _RATE, np.float32))
    records = trace_sequence(elf, project.board, types, commands, data=False)
    nodes = (training.locked or training.graph).nodes
    return _by_node(nodes, records[len(records) // 2 :], _counter(project))


def _train_step(project: Project, sample: list[Array]) -> int | None:
    """Instructions of one step, the second: the first finds fresh weights of zero."""
    training = open_training(project.folder)
    given = np.zeros((2, *training.graph.inputs[-2].type.shape), np.int8)
    twice = [np.repeat(a, 2, axis=0) for a in sample]
    result = train_project(training, twice, given, _RATE)
    return None if result.instructions is None else int(result.instructions[1])


def embedded_sample(project: Project) -> list[Array]:
    """The sample of the model's self-test, [1, *shape] per graph input in the device's layout."""
    return device_samples(project.graph, project.folder / SAMPLE_FILE)

"""How long a compiled project takes on this machine: medians of many runs in one process."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from ..errors import CompileError
from ..ir.dtypes import Array, DType, TensorType
from .execute import run_sequence, trace_sequence
from .project import Project, check_status
from .protocol import Command, Sample

THREADS_VARIABLE = "TINSMITH_THREADS"  # what runtime_c/tvm/ts_parallel.c reads
_MAX_THREADS = 64  # TS_MAX_THREADS
_SECONDS = 1.0  # of measurement, about
_FEWEST, _MOST = 30, 20_000
_WARM_UP = 20
_TRACED_RUNS = 40  # of a profile: as many times per node, whose median counts


@dataclass(frozen=True)
class Latency:
    """Of one inference, in microseconds. runs: how many were measured."""

    median_us: float
    runs: int
    threads: int


def has_clock(project: Project) -> bool:
    """Whether times of this project say something: on a board with a clock that runs natively."""
    return project.board.counter.kind == "clock" and project.board.is_native


@contextmanager
def using_threads(count: int | None) -> Generator[None]:
    """Programs that are started inside use `count` threads; None: what the environment says.

    Raises CompileError for a count below 1 or above 64.
    """
    if count is None:
        yield
        return
    if not 1 <= count <= _MAX_THREADS:
        raise CompileError(f"{count} threads", expected=f"1 to {_MAX_THREADS}")
    before = os.environ.get(THREADS_VARIABLE)
    os.environ[THREADS_VARIABLE] = str(count)
    try:
        yield
    finally:
        if before is None:
            del os.environ[THREADS_VARIABLE]
        else:
            os.environ[THREADS_VARIABLE] = before


def measure_latency(
    project: Project, sample: Sequence[Array], *, threads: int | None = None
) -> Latency:
    """Time a built project on one sample, [1, *shape] per input, warm.

    Raises CompileError where there is no clock, and as `run_sequence`.
    """
    if not has_clock(project):
        raise CompileError(f"times are not measured on board {project.board.name} here")
    with using_threads(threads):
        count = int(os.environ.get(THREADS_VARIABLE) or 1)
        first = float(np.median(_times(project, sample, 3, 10)))
        runs = int(np.clip(_SECONDS * 1e9 / max(first, 1.0), _FEWEST, _MOST))
        times = _times(project, sample, _WARM_UP, runs)
    return Latency(float(np.median(times)) / 1e3, runs, count)


def _times(project: Project, sample: Sequence[Array], before: int, runs: int) -> Array:
    """Nanoseconds of every run, [runs]."""
    counts = np.array([before, runs], np.uint32)
    command = Sample((counts, *(a[0] for a in sample)), command=Command.TIME)
    types = [*([] for _ in project.start), [TensorType((runs,), DType.INT64)]]
    results = run_sequence(project.elf(), project.board, types, [*project.start, command])
    check_status(results)
    return results[-1].outputs[0]


def node_times(project: Project, sample: Sequence[Array]) -> Array:
    """Nanoseconds of every node of a project that was built with a trace: medians, [nodes]."""
    types = [v.type for v in project.graph.outputs]
    one = Sample(tuple(a[0] for a in sample))
    records = trace_sequence(
        project.elf(trace=True), project.board, [types] * _TRACED_RUNS, [one] * _TRACED_RUNS
    )
    nodes = len(project.graph.nodes)
    ticks = np.zeros((_TRACED_RUNS, nodes), np.int64)
    each = len(records) // _TRACED_RUNS
    for i, record in enumerate(records):
        ticks[i // each, record.node] += record.ticks
    return np.median(ticks, axis=0)

"""Runs the cells of a matrix side by side: any number on emulated boards, one on each real one."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from multiprocessing import get_context

from .cell import CellResult, digest_of, kept_result, run_cell
from .matrix import Cell

Told = Callable[[CellResult], None]
Running = Callable[[Sequence[str], int], None]


def run_matrix(
    cells: Sequence[Cell],
    *,
    jobs: int | None = None,
    fresh: bool = False,
    done: Told = lambda result: None,
    running: Running = lambda names, finished: None,
) -> list[CellResult]:
    """The results of all cells, in their order; one that fails stops no other.

    jobs: cells at once; by default as many as there are processors. fresh: measure again what was
    measured with the same inputs. done: told of every result as it comes. running: told the names
    of the cells that run, and how many are finished.
    """
    results: dict[int, CellResult] = {}
    waiting: dict[int, str] = {}
    for index, cell in enumerate(cells):
        digest = digest_of(cell)
        kept = None if fresh else kept_result(cell, digest)
        if kept is None:
            waiting[index] = digest
            continue
        results[index] = kept
        done(kept)
    workers = [_worker() for _ in range(min(jobs or os.cpu_count() or 1, len(waiting)))]
    try:
        _run(workers, cells, waiting, results, done, running)
    finally:
        for worker in workers:
            worker.shutdown(cancel_futures=True)
    return [results[index] for index in range(len(cells))]


def _worker() -> ProcessPoolExecutor:
    """One process: compiling is Python. A new one, because labgrid's threads do not fork; of its
    own, so that one that is killed takes no other cell with it."""
    return ProcessPoolExecutor(1, get_context("spawn"), initializer=_wait_quietly)


def _run(
    workers: list[ProcessPoolExecutor],
    cells: Sequence[Cell],
    waiting: dict[int, str],
    results: dict[int, CellResult],
    done: Told,
    running: Running,
) -> None:
    """Until `waiting`, the digests of cells by number, is empty. workers: those that broke are
    replaced in it."""
    digests = dict(waiting)
    started: dict[Future[CellResult], tuple[int, int]] = {}
    while waiting or started:
        busy = {cells[index].station.resource for index, _ in started.values()} - {None}
        free = set(range(len(workers))) - {worker for _, worker in started.values()}
        for index in list(waiting):
            resource = cells[index].station.resource
            if free and resource not in busy:
                worker = free.pop()
                future = workers[worker].submit(_interruptible, cells[index], waiting.pop(index))
                started[future] = (index, worker)
                busy |= {resource} - {None}
        running([cells[index].name for index, _ in started.values()], len(results))
        for future in wait(started, return_when=FIRST_COMPLETED).done:
            index, worker = started.pop(future)
            if isinstance(future.exception(), BrokenExecutor):
                workers[worker].shutdown()
                workers[worker] = _worker()
            results[index] = _result(future, cells[index], digests[index])
            done(results[index])


def _result(future: Future[CellResult], cell: Cell, digest: str) -> CellResult:
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, KeyboardInterrupt | SystemExit):
        raise KeyboardInterrupt from error
    text = f"a defect of tinsmith: {type(error).__name__}: {error}"
    if isinstance(error, BrokenExecutor):
        text = "its process was killed; perhaps there was not enough memory: use fewer --jobs"
    return CellResult(cell.model, cell.board, digest, stage="run", error=text)


def _wait_quietly() -> None:
    """A process that has no cell leaves Ctrl-C to its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _interruptible(cell: Cell, digest: str) -> CellResult:
    """With Ctrl-C a cell unwinds, and so gives its place back."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return run_cell(cell, digest)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)

"""Where independent jobs run: local processes, or a Dask cluster that exists already.

Both are `concurrent.futures` executors. What all jobs share (the model, the samples) is sent to
every worker once. Results go to a file of JSON lines as they come, by the hash of what the job is,
so that an interrupted run goes on where it was.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import CompileError, MissingTool

Function = Callable[[Any, Any], Any]
Submit = Callable[[Function, Any], "Future[Any]"]
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_CONNECT_S = "10s"

_shared: Any = None  # of a local worker process


def _share(shared: Any) -> None:
    global _shared  # noqa: PLW0603  one per worker process, set when it starts
    _shared = shared


def _with_shared(function: Function, job: Any) -> Any:
    return function(_shared, job)


@contextmanager
def workers(
    shared: Any, *, processes: int = 2, dask: str | None = None
) -> Generator[Submit, None, None]:
    """Gives `submit(function, job)`, whose future holds `function(shared, job)`.

    dask: address of a scheduler, "tcp://host:8786"; its workers need the same tinsmith. Function
    and job must pickle. Raises MissingTool without the package `distributed`, CompileError when no
    scheduler answers.
    """
    if dask is None:
        with _processes(shared, processes) as executor:
            yield lambda function, job: executor.submit(_with_shared, function, job)
        return
    client = _client(dask)
    try:
        sent = client.scatter(shared, broadcast=True)
        executor: Executor = client.get_executor()
        yield lambda function, job: executor.submit(function, sent, job)
    finally:
        client.close()


@contextmanager
def _processes(shared: Any, count: int) -> Generator[Executor, None, None]:
    """Fresh processes, one numpy thread each: there are as many processes as cores to use."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    executor = ProcessPoolExecutor(
        count, multiprocessing.get_context("spawn"), initializer=_share, initargs=(shared,)
    )
    try:
        yield executor
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _client(address: str) -> Any:
    try:
        distributed = importlib.import_module("distributed")
    except ModuleNotFoundError as error:
        raise MissingTool(
            "a Dask cluster needs the package distributed, which is not installed",
            hint="pip install 'tinsmith[dask]', or leave out --dask",
        ) from error
    try:
        return distributed.Client(address, timeout=_CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise CompileError(
            f"no Dask scheduler answers at {address}: {error}",
            expected="an address such as tcp://127.0.0.1:8786",
            hint="start one with `dask scheduler` and `dask worker ADDRESS`",
        ) from error


class ResultFile:
    """JSON lines `{"key": …, "result": …}`; a line that was cut off by a crash is skipped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.done: dict[str, Any] = {}
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        for line in text.splitlines():
            try:
                entry = json.loads(line)
                self.done[entry["key"]] = entry["result"]
            except (ValueError, KeyError, TypeError):
                continue
        self._torn = bool(text) and not text.endswith("\n")

    def add(self, key: str, result: Any) -> None:
        self.done[key] = result
        line = json.dumps({"key": key, "result": result})
        with self.path.open("a", encoding="utf-8") as out:
            out.write(("\n" if self._torn else "") + line + "\n")
        self._torn = False


def run_jobs(
    jobs: Mapping[str, Any],
    function: Function,
    submit: Submit,
    results: ResultFile,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """The result of every job by its key; those in `results` are not run again.

    progress: is told how many of how many are done. Raises CompileError when a job failed: its own
    one, or one that says how the worker died.
    """
    waiting = {submit(function, job): key for key, job in jobs.items() if key not in results.done}
    done = len(jobs) - len(waiting)
    try:
        for future in as_completed(waiting):
            results.add(waiting[future], _result(future))
            done += 1
            if progress:
                progress(done, len(jobs))
    finally:
        for future in waiting:
            future.cancel()
    return {key: results.done[key] for key in jobs}


def _result(future: Future[Any]) -> Any:
    try:
        return future.result()
    except CompileError:
        raise
    except BrokenProcessPool as error:
        raise CompileError(
            "a worker process died", hint="it may have run out of memory: take fewer with --jobs"
        ) from error
    except Exception as error:
        raise CompileError(
            f"a job failed on its worker: {type(error).__name__}: {error}",
            hint="the workers need the same version of tinsmith as this process",
        ) from error

"""Machines to measure on, through TVM's RPC tracker: a farm's, or this one over loopback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BadInput, MissingTool
from ..ir.dtypes import Array
from .import_tvm import tvm

LOOPBACK = "127.0.0.1"
LOCAL_KEY = "tinsmith"

_START_SECONDS = 30.0
_SESSION_SECONDS = 120
_ROUNDS = 4  # each candidate has its turn so often, so that drift meets all
_REPEATS = 8
_LEAST_MS = 1  # of one repeat


@dataclass(frozen=True)
class Tracker:
    """Where an RPC tracker listens, and under which key the wanted devices are known to it."""

    host: str
    port: int
    key: str

    @staticmethod
    def parse(address: str, key: str) -> Tracker:
        """HOST:PORT. Raises BadInput for anything else."""
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal():
            raise BadInput(f"{address!r} is no address of a tracker", expected="HOST:PORT")
        return Tracker(host, int(port), key)


@contextmanager
def local_tracker() -> Generator[Tracker]:
    """A tracker with one server, processes of this machine, which end with the block."""
    port = _free_port()
    address = ["--host", LOOPBACK, "--port", str(port), "--port-end", str(port + 1)]
    with ExitStack() as stack:
        stack.enter_context(_process("tvm.exec.rpc_tracker", *address))
        _wait_for(LOOPBACK, port)
        own = _free_port()
        server = ["--host", LOOPBACK, "--port", str(own), "--port-end", str(own + 1)]
        known = ["--tracker", f"{LOOPBACK}:{port}", "--key", LOCAL_KEY]
        stack.enter_context(_process("tvm.exec.rpc_server", *server, *known))
        _wait_for(LOOPBACK, own)
        yield Tracker(LOOPBACK, port, LOCAL_KEY)


@contextmanager
def session(tracker: Tracker) -> Generator[Any]:
    """A device of the tracker's. Raises MissingTool when none answers."""
    from tvm import rpc

    def nobody(text: str) -> MissingTool:
        return MissingTool(
            text,
            expected=f"`python -m tvm.exec.rpc_tracker --port {tracker.port}`, and on the device "
            f"`python -m tvm.exec.rpc_server --tracker HOST:{tracker.port} --key {tracker.key}`",
        )

    try:
        socket.create_connection((tracker.host, tracker.port), timeout=5).close()
    except OSError as error:
        raise nobody(f"no tracker answers at {tracker.host}:{tracker.port}: {error}") from error
    connected = rpc.connect_tracker(tracker.host, tracker.port)
    if not _is_known(connected, tracker.key):
        raise nobody(f"the tracker knows no device {tracker.key!r}")
    yield connected.request(tracker.key, session_timeout=_SESSION_SECONDS)


def measure(remote: Any, library: Path, calls: Mapping[str, Sequence[Array]]) -> dict[str, float]:
    """Seconds of each function of `library` (a shared object) on its arrays: of the fastest
    repeat, for what disturbs a measurement only ever adds to it."""
    remote.upload(str(library))
    module, device = remote.load_module(library.name), remote.cpu(0)
    arguments = {
        name: [tvm.runtime.tensor(a.reshape(-1), device=device) for a in arrays]
        for name, arrays in calls.items()
    }
    timers = {
        name: module.time_evaluator(
            name, device, number=1, repeat=_REPEATS, min_repeat_ms=_LEAST_MS
        )
        for name in calls
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(_ROUNDS):
        for name, timer in timers.items():
            times[name] += timer(*arguments[name]).results
    return {name: min(found) for name, found in times.items()}


def _is_known(connected: Any, key: str) -> bool:
    """Whether a device registers under `key` within a few seconds."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        if connected.summary().get("queue_info", {}).get(key):
            return True
        time.sleep(0.1)
    return False


@contextmanager
def _process(module: str, *arguments: str) -> Generator[None]:
    """One of TVM's programs; it and what it started end with the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        env=os.environ | {"TVM_NUM_THREADS": "1", "TVM_BIND_THREADS": "0"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_for(host: str, port: int) -> None:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until:
        try:
            socket.create_connection((host, port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise MissingTool(f"TVM's RPC server did not start on {host}:{port}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])

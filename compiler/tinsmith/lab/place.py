"""A place of a labgrid coordinator: held while its board is used, given back at the end."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

from ..errors import CompileError
from ..serial_link.port import BAUD, Port, using_port
from .connection import Connection, Exported, LabUnavailable

COORDINATOR_VARIABLE = "LG_COORDINATOR"
_DEFAULT_COORDINATOR = "127.0.0.1:20408"
_SERIAL = "NetworkSerialPort"
_START_SECONDS = 10.0  # an exporter starts ser2net when its port is acquired
_POLL_SECONDS = 0.1
_SCHEMES = {"raw": "socket://{}:{}", "rfc2217": "rfc2217://{}:{}?ign_set_control&timeout=3"}


@dataclass(frozen=True)
class Debugger:
    """A debug probe. host: None for this machine. location: of its USB port, BUS-PORT.PORT."""

    host: str | None
    location: str | None


@dataclass(frozen=True)
class Place:
    """A place that is held."""

    name: str
    connection: Connection

    def port(self) -> str:
        """Of its serial port, the name that pyserial takes.

        Waits for one whose exporter is just starting it. Raises LabUnavailable when there is none
        or several, CompileError for a protocol that is not known.
        """
        end = time.monotonic() + _START_SECONDS
        while True:
            ports = [r for r in self.connection.resources(self.name) if r.kind == _SERIAL]
            ready = [r for r in ports if r.port is not None]
            if ready:
                break
            if time.monotonic() > end:
                raise LabUnavailable(
                    f"the place {self.name} has no {_SERIAL} that is available",
                    hint=f"labgrid-client -p {self.name} show",
                )
            time.sleep(_POLL_SECONDS)
        if len(ready) > 1:
            names = ", ".join(r.name for r in ready)
            raise LabUnavailable(
                f"the place {self.name} has several serial ports: {names}",
                hint="make a place with the one that the firmware speaks on",
            )
        return _address(ready[0])

    def debugger(self) -> Debugger:
        """Its debug probe. Raises LabUnavailable when it has none."""
        there = self.connection.resources(self.name)
        for found in there:
            if "Debugger" in found.kind:
                path = found.parameters.get("path")
                here = found.host in _names_of_this_machine()
                return Debugger(None if here else found.host, path)
        kinds = ", ".join(r.kind for r in there) or "nothing"
        raise LabUnavailable(
            f"the place {self.name} has no debug probe",
            expected="a USBDebugger",
            hint=f"it has {kinds}",
        )


def coordinator_address(given: str | None) -> str:
    """HOST:PORT that was given, or of LG_COORDINATOR, or labgrid's default."""
    return given or os.environ.get(COORDINATOR_VARIABLE) or _DEFAULT_COORDINATOR


@contextmanager
def held(name: str, coordinator: str | None = None) -> Generator[Place]:
    """A place, acquired, and released whatever happens inside: also with Ctrl-C and SIGTERM.

    Raises MissingTool without labgrid, LabUnavailable when somebody else holds it.
    """
    connection = Connection(coordinator_address(coordinator))
    try:
        with _terminated_as_exit():
            connection.acquire(name)
            try:
                yield Place(name, connection)
            finally:
                connection.release(name)
    finally:
        connection.close()


@contextmanager
def reaching(
    port: str | None,
    baud: int = BAUD,
    *,
    place: str | None = None,
    coordinator: str | None = None,
    tell: Callable[[str], None] | None = None,
) -> Generator[Port | None]:
    """`using_port` for a port, or for that of a place, which is held inside; None without either.

    Raises CompileError for both, and as `held` and `Place.port` do.
    """
    if place is None:
        if coordinator is not None:
            raise CompileError("--coordinator is of --labgrid", hint="name a place")
        with using_port(port, baud, tell=tell) as line:
            yield line
        return
    if port is not None:
        raise CompileError("--port and --labgrid both say where the board is", hint="give one")
    with held(place, coordinator) as found, using_port(found.port(), baud, tell=tell) as line:
        yield line


def _address(found: Exported) -> str:
    protocol = str(found.parameters.get("protocol", "rfc2217"))
    if protocol not in _SCHEMES:
        raise CompileError(
            f"the serial port {found.name} speaks {protocol!r}",
            expected=f"one of {', '.join(_SCHEMES)}",
        )
    host = f"[{found.host}]" if ":" in found.host else found.host
    return _SCHEMES[protocol].format(host, found.port)


def _names_of_this_machine() -> set[str]:
    return {"localhost", "127.0.0.1", "::1", socket.gethostname(), socket.getfqdn()}


@contextmanager
def _terminated_as_exit() -> Generator[None]:
    """SIGTERM unwinds like any exception. In another thread than the main one it cannot be had."""

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

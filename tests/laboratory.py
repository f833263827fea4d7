"""A labgrid coordinator with an exporter on loopback, and a serial port that speaks RFC 2217."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import serial
from serial.rfc2217 import PortManager

EXPORTER = "bench"


@contextmanager
def laboratory(folder: Path, places: Mapping[str, Mapping[str, Any]]) -> Generator[str]:
    """The address of a coordinator whose places have these resources, by class."""
    from labgrid.util.yaml import dump

    address = f"127.0.0.1:{_free_port()}"
    groups = {place: {kind: dict(p) for kind, p in r.items()} for place, r in places.items()}
    (folder / "exporter.yaml").write_text(dump(groups))
    program = [sys.executable, "-m"]
    commands = [
        ["labgrid.remote.coordinator", "-l", address],
        ["labgrid.remote.exporter", "-c", address, "-n", EXPORTER, "--hostname", "127.0.0.1"],
    ]
    commands[1].append(str(folder / "exporter.yaml"))
    children = []
    with (folder / "log").open("wb") as log:
        try:
            for command in commands:
                child = subprocess.Popen([*program, *command], cwd=folder, stdout=log, stderr=log)
                children.append(child)
                if len(children) == 1:
                    _wait_for(address)
            asyncio.run(_make_places(address, places))
            yield address
        finally:
            for child in reversed(children):
                child.terminate()
                child.wait()


async def _make_places(address: str, places: Mapping[str, Mapping[str, Any]]) -> None:
    from labgrid.remote import client
    from labgrid.remote.generated import labgrid_coordinator_pb2 as messages

    session = client.ClientSession(address, asyncio.get_running_loop())
    await session.start()
    for place in places:
        await session.stub.AddPlace(messages.AddPlaceRequest(name=place))
        pattern = f"{EXPORTER}/{place}/*"
        await session.stub.AddPlaceMatch(
            messages.AddPlaceMatchRequest(placename=place, pattern=pattern)
        )
    end = time.monotonic() + 20
    while len(session.resources.get(EXPORTER, {})) < len(places):
        assert time.monotonic() < end, "the exporter does not come"
        await asyncio.sleep(0.05)
    await session.stop()
    await session.close()


@contextmanager
def as_somebody(name: str) -> Generator[None]:
    """labgrid's name for the user of this process: HOST/USER."""
    host, user = name.split("/")
    before = {k: os.environ.get(k) for k in ("LG_HOSTNAME", "LG_USERNAME")}
    os.environ |= {"LG_HOSTNAME": host, "LG_USERNAME": user}
    try:
        yield
    finally:
        for key, value in before.items():
            os.environ.pop(key) if value is None else os.environ.update({key: value})


@contextmanager
def rfc2217(url: str) -> Generator[int]:
    """The TCP port of a server that speaks RFC 2217 and has `url` behind it, for one client."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_redirect, args=(server, url, stop))
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            stop.set()
            thread.join()


class _Client:
    """What PortManager writes its answers to; two threads send."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection, self.lock = connection, threading.Lock()

    def write(self, data: bytes) -> None:
        with self.lock:
            self.connection.sendall(data)


def _redirect(server: socket.socket, url: str, stop: threading.Event) -> None:
    server.settimeout(0.1)
    while not stop.is_set():
        with suppress(TimeoutError):
            connection, _ = server.accept()
            with connection, serial.serial_for_url(url, timeout=0.05) as board:
                _serve(connection, board, stop)


def _serve(connection: socket.socket, board: Any, stop: threading.Event) -> None:
    client = _Client(connection)
    manager = PortManager(board, client)
    left = threading.Event()

    def to_client() -> None:
        while not (stop.is_set() or left.is_set()):
            data = board.read(1)
            if data:
                with suppress(OSError):
                    client.write(b"".join(manager.escape(data + board.read(256))))

    thread = threading.Thread(target=to_client)
    thread.start()
    connection.settimeout(0.1)
    while not stop.is_set():
        with suppress(TimeoutError):
            data = connection.recv(1024)
            if not data:
                break
            board.write(b"".join(manager.filter(data)))
    left.set()
    thread.join()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def _wait_for(address: str) -> None:
    host, port = address.split(":")
    end = time.monotonic() + 20
    while True:
        try:
            socket.create_connection((host, int(port)), 1).close()
            return
        except OSError:
            assert time.monotonic() < end, "the coordinator does not come"
            time.sleep(0.05)

"""A line to a board: a serial port of this machine, or the UART of an emulator."""

from __future__ import annotations

import contextlib
import select
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Protocol

import serial

from ..errors import CompileError, InternalError
from ..toolchain.programs import tail

_REOPEN_SECONDS = 10.0
_RETRY_SECONDS = 0.2
_MOST = 4096  # bytes that are read at once
_TICK_SECONDS = 0.05


class NoAnswer(CompileError):
    """Nothing that speaks the link is at the other end of the port."""

    exit_code = 3


class Line(Protocol):
    """Bytes both ways. baud: of the line, 0 where it has no rate."""

    baud: int

    def write(self, data: bytes) -> None: ...
    def read(self, seconds: float) -> bytes:
        """What is there, after at most so many seconds; empty when nothing came."""
        ...

    def close(self) -> None: ...


class SerialPort:
    """A port that pyserial knows: /dev/ttyACM0, COM3, socket://host:port, rfc2217://…

    One that goes away (a cable, a proxy) is opened again; what was on its way is lost, and the link
    asks for it once more. Raises NoAnswer when that does not help, CompileError for a bad name.
    """

    def __init__(self, name: str, baud: int) -> None:
        self.name, self.baud = name, baud
        # Over RFC 2217 pyserial negotiates the whole line again with every change of the timeout.
        self._keeps_timeout = name.startswith("rfc2217:")
        try:
            self._open()
        except (serial.SerialException, ValueError) as error:
            raise NoAnswer(f"cannot open the port {name}: {error}", hint="see --port") from error

    def _open(self) -> None:
        timeout = _TICK_SECONDS if self._keeps_timeout else 0
        self._port = serial.serial_for_url(self.name, baudrate=self.baud, timeout=timeout)

    def write(self, data: bytes) -> None:
        try:
            self._port.write(data)
        except (serial.SerialException, OSError):
            self._reopen()

    def read(self, seconds: float) -> bytes:
        try:
            if self._keeps_timeout:
                return self._read_by_ticks(seconds)
            self._port.timeout = seconds
            data: bytes = self._port.read(1)
            if data:
                self._port.timeout = 0
                data += self._port.read(_MOST)
            return data
        except (serial.SerialException, OSError):
            self._reopen()
            return b""

    def _read_by_ticks(self, seconds: float) -> bytes:
        end = time.monotonic() + seconds
        while True:
            data: bytes = self._port.read(max(1, min(self._port.in_waiting, _MOST)))
            if data or time.monotonic() > end:
                return data

    def close(self) -> None:
        with contextlib.suppress(serial.SerialException, OSError):
            self._port.close()

    def _reopen(self) -> None:
        self.close()
        end = time.monotonic() + _REOPEN_SECONDS
        while True:
            time.sleep(_RETRY_SECONDS)
            try:
                self._open()
                return
            except (serial.SerialException, OSError) as error:
                if time.monotonic() > end:
                    raise NoAnswer(f"the port {self.name} went away: {error}") from error


class Emulator:
    """QEMU with its first UART on a socket. argv: its command, with `-serial none`."""

    baud = 0

    def __init__(self, argv: Sequence[str]) -> None:
        ours, theirs = socket.socketpair()
        self._socket = ours
        self._folder = tempfile.TemporaryDirectory(prefix="tinsmith-")
        self._log: IO[bytes] = (Path(self._folder.name) / "log").open("w+b")
        with theirs:
            self._child = subprocess.Popen(
                with_uart(argv, theirs.fileno()),
                cwd=self._folder.name,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
            )

    def write(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise self._died() from error

    def read(self, seconds: float) -> bytes:
        if not select.select([self._socket], [], [], seconds)[0]:
            return b""
        data = self._socket.recv(_MOST)
        if not data:
            raise self._died()
        return data

    def _died(self) -> InternalError:
        status = self._child.wait()
        self._log.seek(0)
        log = tail(self._log.read().decode(errors="replace"))
        return InternalError(f"the emulator ended with exit status {status}\n{log}".rstrip())

    def close(self) -> None:
        self._socket.close()
        self._child.kill()
        self._child.wait()
        self._log.close()
        self._folder.cleanup()


def with_uart(argv: Sequence[str], descriptor: int) -> list[str]:
    """An emulator's command with its first UART on an open socket. Raises CompileError when the
    command does not say `-serial none`, which is what is replaced."""
    words = list(argv)
    if "-serial" not in words[:-1]:
        raise CompileError(
            f"{Path(words[0]).name} has no serial port here: no -serial in board.toml"
        )
    words[words.index("-serial") + 1] = "chardev:ts_uart"
    return [*words, "-chardev", f"socket,id=ts_uart,fd={descriptor}"]

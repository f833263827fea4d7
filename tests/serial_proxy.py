"""A serial line between a TCP port and an emulated UART: as slow as a baud rate, as bad as told.

It stands where a cable stands: pyserial connects to `url`, QEMU's UART is the other end.
"""

from __future__ import annotations

import random
import select
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tinsmith.serial_link.line import with_uart

_PIECE = 32  # bytes between two waits of a paced line


@dataclass
class Faults:
    """Probabilities per byte of one direction. truncated: the rest of a piece is lost."""

    corrupted: float = 0.0
    dropped: float = 0.0
    duplicated: float = 0.0
    truncated: float = 0.0

    def spoil(self, data: bytes, rng: random.Random) -> bytes:
        out = bytearray()
        for byte in data:
            if rng.random() < self.truncated:
                break
            if rng.random() < self.dropped:
                continue
            out.append(byte ^ rng.randrange(1, 256) if rng.random() < self.corrupted else byte)
            if rng.random() < self.duplicated:
                out.append(byte)
        return bytes(out)


@dataclass
class SlowLine:
    """Paces one direction: at `baud`, ten bits a byte; 0: as fast as it goes."""

    baud: int
    free_at: float = 0.0

    def take(self, end: socket.socket) -> bytes | None:
        """The next piece, when the line has carried it. None when nothing came; empty when the
        other side has left. A piece that waited in a queue starts where the last one ended."""
        try:
            queued = bool(select.select([end], [], [], 0)[0])
            if not queued and not select.select([end], [], [], 0.05)[0]:
                return None
            data = end.recv(_PIECE)
        except (OSError, ValueError):
            return b""
        if self.baud:
            now = time.monotonic()
            start = max(self.free_at, now - 0.05 if queued else now)
            self.free_at = start + len(data) * 10 / self.baud
            time.sleep(max(0.0, self.free_at - time.monotonic()))
        return data


@dataclass
class Proxy:
    """argv: the emulator's. resets: after so many bytes to the host, each once, the board restarts.
    hang_ups: after so many, each once, the host's connection is cut."""

    argv: Sequence[str]
    baud: int = 0
    faults: Faults = field(default_factory=Faults)
    seed: int = 0
    resets: list[int] = field(default_factory=list)
    hang_ups: list[int] = field(default_factory=list)
    moved: int = 0
    boots: int = 0

    def __post_init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self._stop = threading.Event()
        self._host: socket.socket | None = None
        self._boot()
        self._threads = [threading.Thread(target=t) for t in (self._to_board, self._to_host)]
        for thread in self._threads:
            thread.start()

    @property
    def url(self) -> str:
        return f"socket://127.0.0.1:{self._server.getsockname()[1]}"

    def _boot(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._child = subprocess.Popen(
                with_uart(self.argv, theirs.fileno()),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        self._board = ours
        self.boots += 1

    def _kill(self) -> None:
        self._child.kill()
        self._child.wait()
        self._board.close()

    def _to_board(self) -> None:
        line, rng = SlowLine(self.baud), random.Random(self.seed)
        while not self._stop.is_set():
            host = self._host
            if host is None:
                if select.select([self._server], [], [], 0.05)[0]:
                    self._host = self._server.accept()[0]
                    self._host.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                continue
            data = line.take(host)
            if data is None:
                continue
            if not data:
                self._host = None
                continue
            _send(lambda: self._board, self.faults.spoil(data, rng))

    def _to_host(self) -> None:
        line, rng = SlowLine(self.baud), random.Random(self.seed + 1)
        while not self._stop.is_set():
            data = line.take(self._board)
            if not data:
                continue
            host = self._host
            if host is not None:
                _send(lambda host=host: host, self.faults.spoil(data, rng))
            self.moved += len(data)
            if self.resets and self.moved > self.resets[0]:
                del self.resets[0]
                self._kill()
                self._boot()
            if self.hang_ups and self.moved > self.hang_ups[0] and host is not None:
                del self.hang_ups[0]
                host.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._kill()
        if self._host is not None:
            self._host.close()
        self._server.close()


def _send(end: Callable[[], socket.socket], data: bytes) -> None:
    try:
        end().sendall(data)
    except OSError:
        return  # it was unplugged: what was on its way is lost


@contextmanager
def proxy(
    argv: Sequence[str],
    *,
    baud: int = 0,
    faults: Faults | None = None,
    seed: int = 0,
    resets: Sequence[int] = (),
    hang_ups: Sequence[int] = (),
) -> Generator[Proxy]:
    made = Proxy(argv, baud, faults or Faults(), seed, list(resets), list(hang_ups))
    try:
        yield made
    finally:
        made.close()


def emulator(project: Path, board: str, elf: str = "build/firmware.elf") -> list[str]:
    """The command that runs a project's firmware."""
    from tinsmith.machine.board import load_board
    from tinsmith.runner.execute import command

    return command(project / elf, load_board(board))

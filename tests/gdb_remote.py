"""A client of QEMU's GDB stub: as much of the remote serial protocol as the tests need."""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

_PC = 15
_XPSR = 0x19
_REGISTERS = 16


class Stuck(Exception):
    """The machine did not stop in time."""


class GdbRemote:
    """A stopped machine. Addresses and words are those of the core as it is when it stopped."""

    def __init__(self, path: Path, timeout: float = 20.0) -> None:
        self._socket = _connect(path)
        self._socket.settimeout(timeout)
        self._pending = b""
        self.command("?")
        # The stub gives single registers to a client that has read how they are numbered.
        self.command("qXfer:features:read:target.xml:0,ffb")

    def close(self) -> None:
        self._socket.close()

    def command(self, text: str) -> str:
        """Send a packet and return the answer's text."""
        self._send(text)
        return self._answer()

    def _send(self, text: str) -> None:
        data = text.encode()
        self._socket.sendall(b"$" + data + b"#%02x" % (sum(data) & 255))

    def _answer(self) -> str:
        """The next packet; its checksum is not looked at, the socket is reliable."""
        while b"#" not in self._pending or len(self._pending.partition(b"#")[2]) < 2:
            received = self._socket.recv(65536)
            if not received:
                raise ConnectionError("the emulator has ended")
            self._pending += received
        head, _, rest = self._pending.partition(b"#")
        self._pending = rest[2:]
        self._socket.sendall(b"+")
        return head.partition(b"$")[2].decode()

    def read(self, address: int, count: int) -> bytes:
        parts: list[bytes] = []
        for at in range(0, count, 1024):
            answer = self.command(f"m{address + at:x},{min(1024, count - at):x}")
            if answer.startswith("E"):
                raise ValueError(f"no memory at 0x{address + at:08x}")
            parts.append(bytes.fromhex(answer))
        return b"".join(parts)

    def write(self, address: int, data: bytes) -> None:
        for at in range(0, len(data), 1024):
            piece = data[at : at + 1024]
            if self.command(f"M{address + at:x},{len(piece):x}:{piece.hex()}") != "OK":
                raise ValueError(f"no memory at 0x{address + at:08x}")

    def word(self, address: int) -> int:
        return int(struct.unpack("<I", self.read(address, 4))[0])

    def register(self, number: int) -> int:
        return int(struct.unpack("<I", bytes.fromhex(self.command(f"p{number:x}")))[0])

    def set_register(self, number: int, value: int) -> None:
        assert self.command(f"P{number:x}={struct.pack('<I', value).hex()}") == "OK"

    @property
    def pc(self) -> int:
        return self.register(_PC)

    def save(self) -> str:
        """All core registers, for `restore`."""
        return self.command("g")

    def restore(self, registers: str) -> None:
        assert self.command(f"G{registers}") == "OK"

    def set_breakpoint(self, address: int) -> None:
        assert self.command(f"Z0,{address:x},2") == "OK"

    def clear_breakpoint(self, address: int) -> None:
        assert self.command(f"z0,{address:x},2") == "OK"

    def step(self) -> None:
        self.command("s")

    def run_until(self, addresses: Iterable[int], timeout: float = 5.0) -> int:
        """Continue to the first of these addresses; returns it. Raises Stuck."""
        stops = list(addresses)
        for address in stops:
            self.set_breakpoint(address)
        self._send("c")
        self._socket.settimeout(timeout)
        try:
            self._answer()
        except TimeoutError:
            self._socket.sendall(b"\x03")
            self._socket.settimeout(20.0)
            self._answer()
            raise Stuck from None
        finally:
            self._socket.settimeout(20.0)
            with contextlib.suppress(ConnectionError):
                for address in stops:
                    self.clear_breakpoint(address)
        return self.pc

    def skip(self) -> None:
        """Move on by one instruction without executing it (Thumb, inside IT blocks too)."""
        pc = self.pc
        first = int(struct.unpack("<H", self.read(pc, 2))[0])
        self.set_register(_PC, pc + (4 if first >> 11 >= 0x1D else 2))
        xpsr = self.register(_XPSR)
        state = (xpsr >> 8 & 0xFC) | (xpsr >> 25 & 3)
        if state & 0xF:
            state = (state & 0xE0) | (state << 1 & 0x1F) if state & 7 else 0
            xpsr = xpsr & ~0x0600FC00 | (state & 0xFC) << 8 | (state & 3) << 25
            self.set_register(_XPSR, xpsr)

    def reset(self) -> None:
        """Reset the machine; it stays stopped at the reset vector."""
        self._send("qRcmd," + b"system_reset".hex())
        while self._answer().startswith("O") and self._pending:
            pass


def _connect(path: Path) -> socket.socket:
    """Wait until the emulator listens."""
    for _ in range(1000):
        found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            found.connect(str(path))
        except OSError:
            found.close()
            time.sleep(0.01)
        else:
            return found
    raise ConnectionError("the emulator does not listen")


@contextlib.contextmanager
def debugged(argv: Sequence[str], folder: Path) -> Iterator[GdbRemote]:
    """An emulator that waits at its reset vector."""
    with tempfile.TemporaryDirectory(prefix="gdb-") as temporary:
        path = Path(temporary) / "stub"
        stub = f"socket,path={path},server=on,wait=off,id=stub"
        command = [*argv, "-S", "-chardev", stub, "-gdb", "chardev:stub"]
        with subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            try:
                remote = GdbRemote(path)
                yield remote
                remote.close()
            finally:
                process.kill()

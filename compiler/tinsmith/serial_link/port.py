"""Which port the firmware of a project is reached by, for everything that runs inside."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from .line import Emulator, Line, SerialPort
from .link import STALL_SECONDS
from .session import Statistics

QEMU = "qemu"  # the name of a port that is an emulator's, started for every session
BAUD = 115_200


@dataclass
class Port:
    """name: as pyserial takes it, or "qemu". tell: told how a transfer goes, in words."""

    name: str = QEMU
    baud: int = BAUD
    stall_seconds: float = STALL_SECONDS
    tell: Callable[[str], None] | None = None
    statistics: Statistics = field(default_factory=Statistics)
    _line: SerialPort | None = None

    @property
    def emulated(self) -> bool:
        return self.name == QEMU

    @contextmanager
    def line(self, emulator: Sequence[str]) -> Generator[Line]:
        """A line for one session. Raises NoAnswer when the port cannot be opened."""
        if not self.emulated:
            if self._line is None:  # stays open: opening resets some boards
                self._line = SerialPort(self.name, self.baud)
            yield self._line
            return
        line = Emulator(emulator)
        try:
            yield line
        finally:
            line.close()

    def close(self) -> None:
        if self._line is not None:
            self._line.close()


_current: ContextVar[Port | None] = ContextVar("port", default=None)


def current_port() -> Port | None:
    """The port of `using_port`; None outside."""
    return _current.get()


@contextmanager
def using_port(
    name: str | None,
    baud: int = BAUD,
    *,
    tell: Callable[[str], None] | None = None,
    stall_seconds: float = STALL_SECONDS,
) -> Generator[Port | None]:
    """Projects that are run inside are reached by this port; with None as they were compiled."""
    if name is None:
        yield None
        return
    port = Port(name, baud, stall_seconds, tell)
    before = _current.set(port)
    try:
        yield port
    finally:
        _current.reset(before)
        port.close()

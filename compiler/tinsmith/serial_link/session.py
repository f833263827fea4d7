"""Runs a firmware over a port to its end: from a session's first call to its exit status."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .files import RemoteFiles
from .line import Line
from .link import STALL_SECONDS, Link, Traffic

_LIMIT = struct.Struct("<H")


@dataclass
class Statistics:
    """Of all sessions over a port. payload_bytes: of files, both ways, as the firmware used them.
    seconds: with the board's own computing. resets: sessions that the board lost."""

    sessions: int = 0
    resets: int = 0
    payload_bytes: int = 0
    seconds: float = 0.0
    traffic: Traffic = field(default_factory=Traffic)

    @property
    def throughput(self) -> float:
        """Payload in bytes per second."""
        return self.payload_bytes / self.seconds if self.seconds else 0.0


def serve(
    line: Line,
    firmware: Mapping[bytes, Path],
    files: RemoteFiles,
    *,
    stall_seconds: float = STALL_SECONDS,
    statistics: Statistics | None = None,
    moved: Callable[[], None] | None = None,
) -> int:
    """Serve `files` to the firmware until it ends; its exit status.

    firmware: the builds that may answer, by identity. moved: called after every call.
    Raises NoAnswer, WrongFirmware, SessionLost when the board was reset; `files` then holds what
    had been written, and a new session starts from the beginning.
    """
    counted = statistics or Statistics()
    link = Link(line, stall_seconds=stall_seconds)
    counted.sessions += 1
    started = time.monotonic()
    try:
        link.begin(firmware)
        answer = b""
        while files.status is None:
            size = link.payload_bytes
            call = link.exchange(_LIMIT.pack(size) + answer)
            answer = files.carry_out(call, link.payload_bytes - _LIMIT.size)
            if moved is not None:
                moved()
        return files.status
    finally:
        counted.payload_bytes += files.moved
        counted.seconds += time.monotonic() - started
        counted.traffic.wire_bytes += link.traffic.wire_bytes
        counted.traffic.damaged += link.traffic.damaged
        counted.traffic.repeated += link.traffic.repeated

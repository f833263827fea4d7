"""One session with a board: numbered exchanges over a line that may lose or damage anything."""

from __future__ import annotations

import secrets
import struct
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import CompileError
from .frames import OVERHEAD, Frame, FrameReader, Kind, encode_frame
from .line import Line, NoAnswer
from .payload_size import PayloadSize

VERSION = 1
_WELCOME = struct.Struct("<BH20s")
_BITS_PER_BYTE = 10  # on a line with a start and a stop bit
_LATENCY = 0.03  # of USB adapters and schedulers, on top of what the bytes take
_LONGEST_WAIT = 0.5
_LAST_NUMBER = 0xFFFF
GREETING_SECONDS = 5.0
STALL_SECONDS = 300.0  # a single run never takes so long


class WrongFirmware(CompileError):
    """The board does not run the firmware of this project."""


class SessionLost(Exception):
    """The board has forgotten the session: it was reset, or another host began one."""


@dataclass
class Traffic:
    """What went over a line. Bytes of frames both ways; damaged: frames that arrived so, at either
    end; repeated: frames sent again, and questions whether one had arrived."""

    wire_bytes: int = 0
    damaged: int = 0
    repeated: int = 0


@dataclass(frozen=True)
class Welcome:
    """What the firmware says it is. longest: bytes of a payload."""

    version: int
    longest: int
    identity: bytes
    name: str


class Link:
    """Raises NoAnswer when the board is silent for `stall_seconds`, and SessionLost."""

    def __init__(self, line: Line, *, stall_seconds: float = STALL_SECONDS) -> None:
        self.traffic = Traffic()
        self._line = line
        self._stall = stall_seconds
        self._reader = FrameReader()
        self._arrived: deque[Frame | None] = deque()
        self._session = 0
        self._number = 0
        self._sent_at = 0.0
        self._size = PayloadSize(longest=64)

    @property
    def payload_bytes(self) -> int:
        """How long a payload should be now."""
        return self._size.best

    def begin(self, firmware: Mapping[bytes, Path], seconds: float = GREETING_SECONDS) -> Welcome:
        """Start a session, with the board as after a reset.

        firmware: what may answer, by identity. Raises NoAnswer, WrongFirmware when the board runs
        none of these or speaks another version.
        """
        self._session = 1 + secrets.randbelow(0xFFFF)
        self._number = 0
        hello = Frame(Kind.HELLO, self._session, 0, bytes([VERSION]))
        end = time.monotonic() + seconds
        wait = self._wire_seconds(2 * (OVERHEAD + 64)) + 2 * _LATENCY
        while time.monotonic() < end:
            self._send(hello)
            again = time.monotonic() + wait
            while (left := again - time.monotonic()) > 0:
                frame = self._receive(left)
                if frame and frame.kind is Kind.WELCOME and frame.session == self._session:
                    welcome = _welcome(frame.payload, firmware)
                    self._size = PayloadSize(welcome.longest)
                    return welcome
            wait = min(wait * 1.5, 2 * _LONGEST_WAIT)
        raise NoAnswer(
            f"the board did not answer within {seconds:g} seconds",
            expected="firmware compiled with --harness serial",
            hint="is it flashed, is the port right, and does --baud match?",
        )

    def exchange(self, payload: bytes) -> bytes:
        """Hand over what the last call returned; the board's next call.

        payload: at most `payload_bytes` long. Every answer is that of exactly this frame.
        """
        before = self._number
        self._number = before % _LAST_NUMBER + 1
        frame = Frame(Kind.DATA, self._session, self._number, payload)
        poll = Frame(Kind.POLL, self._session, self._number)
        wire, damaged = self.traffic.wire_bytes, self.traffic.damaged
        self._send(frame)
        wait = self._wire_seconds(self._size.best + 2 * OVERHEAD) + _LATENCY
        heard = time.monotonic()
        while True:
            count = self.traffic.damaged
            got = self._receive(wait)
            if got is None:
                if self.traffic.damaged == count:
                    wait = min(2 * wait, _LONGEST_WAIT)
                if time.monotonic() - heard > self._stall:
                    raise NoAnswer(f"the board said nothing for {self._stall:g} seconds")
                self._repeat(poll)
                continue
            if got.session != self._session:
                continue
            if got.kind is Kind.CALL and got.number == self._number:
                used = self.traffic.wire_bytes - wire
                self._size.count(used, self.traffic.damaged - damaged)
                return got.payload
            if got.kind is Kind.NO_SESSION:
                raise SessionLost
            if got.kind is Kind.MISSED:
                heard = time.monotonic()
                self._missed(got, frame if got.number == before else poll)

    def _missed(self, got: Frame, answer: Frame) -> None:
        """The board heard damage, or nothing. Old news is left alone: what was sent last cannot
        have been heard yet."""
        if time.monotonic() - self._sent_at >= self._wire_seconds(OVERHEAD + len(got.payload)):
            self.traffic.damaged += 1
            self._repeat(answer)

    def _repeat(self, frame: Frame) -> None:
        self.traffic.repeated += 1
        self._send(frame)

    def _send(self, frame: Frame) -> None:
        data = encode_frame(frame)
        self.traffic.wire_bytes += len(data)
        self._line.write(data)
        self._sent_at = time.monotonic() + self._wire_seconds(len(data))

    def _receive(self, seconds: float) -> Frame | None:
        """The next frame; None when none came in time, or when it was damaged (and counted)."""
        end = max(time.monotonic(), self._sent_at) + seconds
        while not self._arrived:
            left = end - time.monotonic()
            data = self._line.read(left) if left > 0 else b""
            if not data:
                return None
            self.traffic.wire_bytes += len(data)
            self._arrived.extend(self._reader.feed(data))
        frame = self._arrived.popleft()
        if frame is None:
            self.traffic.damaged += 1
        return frame

    def _wire_seconds(self, count: int) -> float:
        return count * _BITS_PER_BYTE / self._line.baud if self._line.baud else 0.0


def _welcome(payload: bytes, firmware: Mapping[bytes, Path]) -> Welcome:
    """Raises WrongFirmware when the board is not what the host expects."""
    if not payload or payload[0] != VERSION:
        version = payload[0] if payload else 0
        raise WrongFirmware(
            f"the board speaks version {version} of the serial link",
            expected=f"version {VERSION}",
            hint="compile the project again with this tinsmith, and flash it",
        )
    if len(payload) < _WELCOME.size:
        raise WrongFirmware("the board's greeting is too short for version 1 of the link")
    version, longest, identity = _WELCOME.unpack_from(payload)
    name = payload[_WELCOME.size :].decode("ascii", "replace")
    if identity not in firmware:
        raise WrongFirmware(
            f"the board runs another firmware: {name!r}, build {identity.hex()[:12]}",
            expected=" or ".join(f"build {i.hex()[:12]}" for i in firmware),
            hint=f"flash {' or '.join(str(path) for path in firmware.values())}",
        )
    return Welcome(version, longest, identity, name)

"""Frames on a serial line; `runtime_c/serial/ts_frame.c` is the other side.

A frame is a kind, a session, a number and a payload with a CRC-32 behind them, in consistent
overhead byte stuffing (Cheshire and Baker, 1999), between zeros.
"""

from __future__ import annotations

import binascii
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum

from cobs import cobs

_HEAD = struct.Struct("<BHH")
_CHECK = struct.Struct("<I")
OVERHEAD = _HEAD.size + _CHECK.size + 3  # what a frame adds to a payload below 245 bytes
_LONGEST = 4096  # of an encoded frame; noise without a zero does not fill memory


class Kind(IntEnum):
    """What a frame is for; from 0x80 on it comes from the board."""

    HELLO = 1
    DATA = 2
    POLL = 3
    WELCOME = 0x81
    CALL = 0x82
    MISSED = 0x83
    NO_SESSION = 0x84


@dataclass(frozen=True)
class Frame:
    """number: of the host's frame, or of the one that the board answers."""

    kind: Kind
    session: int
    number: int
    payload: bytes = b""


def encode_frame(frame: Frame) -> bytes:
    """The bytes on the line, zeros at both ends."""
    data = _HEAD.pack(frame.kind, frame.session, frame.number) + frame.payload
    return b"\0" + cobs.encode(data + _CHECK.pack(binascii.crc32(data))) + b"\0"


def decode_frame(encoded: bytes) -> Frame | None:
    """What stood between two zeros; None when it is damaged."""
    try:
        data = cobs.decode(encoded)
    except cobs.DecodeError:
        return None
    if len(data) < _HEAD.size + _CHECK.size:
        return None
    body, check = data[: -_CHECK.size], data[-_CHECK.size :]
    if binascii.crc32(body) != _CHECK.unpack(check)[0]:
        return None
    kind, session, number = _HEAD.unpack_from(body)
    try:
        return Frame(Kind(kind), session, number, body[_HEAD.size :])
    except ValueError:
        return None


@dataclass
class FrameReader:
    """Finds the frames in the bytes of a line, however they are cut into pieces."""

    _pending: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes) -> Iterator[Frame | None]:
        """Every frame that ends in `data`; None for one that is damaged."""
        *ended, rest = data.split(b"\0")
        for part in ended:
            encoded = bytes(self._pending) + part
            self._pending.clear()
            if encoded:
                yield decode_frame(encoded)
        if len(self._pending) + len(rest) <= _LONGEST:
            self._pending += rest

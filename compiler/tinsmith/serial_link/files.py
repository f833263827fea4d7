"""The files that a firmware opens over the link; `runtime_c/serial/remote_files.c` calls."""

from __future__ import annotations

import binascii
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import InternalError
from .link import SessionLost

_READ = struct.Struct("<cBI")
_WRITE = struct.Struct("<cBH")
_EXIT = struct.Struct("<cIII")


@dataclass
class _File:
    data: bytearray
    at: int = 0
    flash: Path | None = None


@dataclass
class RemoteFiles:
    """Carries out a firmware's calls.

    Attributes:
        given: what it may read, by name.
        accepted: the names it may write.
        flash: the file behind `flash.bin`, which changes with every write.
        written: what it has written, by name.
        status: with which it has ended; None while it runs.
        moved: bytes that it has read and written.
    """

    given: Mapping[str, bytes]
    accepted: tuple[str, ...]
    flash: Path | None = None
    written: dict[str, bytearray] = field(default_factory=dict[str, bytearray])
    status: int | None = None
    _open: list[_File] = field(default_factory=list[_File])
    moved: int = 0
    _read_check: int = 0
    _write_check: int = 0

    def carry_out(self, call: bytes, room: int) -> bytes:
        """What a call, with the writes before it, returns: at most `room` bytes.

        Raises SessionLost when the firmware ends and has not read and written what this machine
        has; InternalError for a call that is none.
        """
        try:
            while call[:1] == b"W":
                call = self._write(call)
            match call[:1]:
                case b"":
                    return b""
                case b"O":
                    return self._open_file(chr(call[1]), call[2:].decode("ascii"))
                case b"R":
                    _, number, count = _READ.unpack(call)
                    return self._read(self._open[number], min(count, room))
                case b"S":
                    _, number, offset = _READ.unpack(call)
                    self._open[number].at = offset
                    return b"\1"
                case b"X":
                    return self._exit(call)
                case _:
                    raise InternalError(f"the firmware made a call that is unknown: {call[:8]!r}")
        except (struct.error, IndexError, UnicodeDecodeError) as error:
            raise InternalError(f"the firmware made a call that is cut short: {error}") from error

    def _open_file(self, mode: str, name: str) -> bytes:
        if mode == "r" and name in self.given:
            file = _File(bytearray(self.given[name]))
        elif mode == "w" and name in self.accepted:
            file = _File(self.written.setdefault(name, bytearray()))
        elif mode == "u" and name == "flash.bin" and self.flash is not None:
            file = _File(bytearray(self.flash.read_bytes()), flash=self.flash)
        else:
            return b""
        self._open.append(file)
        return bytes([len(self._open) - 1])

    def _read(self, file: _File, count: int) -> bytes:
        data = bytes(file.data[file.at : file.at + count])
        file.at += len(data)
        self.moved += len(data)
        self._read_check = binascii.crc32(data, self._read_check)
        return data

    def _write(self, call: bytes) -> bytes:
        """The call after this one."""
        _, number, count = _WRITE.unpack_from(call)
        file, end = self._open[number], _WRITE.size + count
        data = call[_WRITE.size : end]
        if len(data) < count:
            raise IndexError(f"{len(data)} bytes of {count}")
        file.data[file.at : file.at + len(data)] = data
        file.at += len(data)
        self._write_check = binascii.crc32(data, self._write_check)
        self.moved += count
        if file.flash is not None:
            file.flash.write_bytes(file.data)
        return call[end:]

    def _exit(self, call: bytes) -> bytes:
        _, status, read, written = _EXIT.unpack(call)
        if (read, written) != (self._read_check, self._write_check):
            raise SessionLost  # one in 2^32 damaged frames looks whole; here it shows
        self.status = status
        return b""

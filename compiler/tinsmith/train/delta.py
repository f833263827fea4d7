"""What a device has learnt, as a patch of the state its model came with.

The twin of `runtime_c/src/ts_delta.c`, byte for byte; `ts_delta.h` says what the bytes mean.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..errors import BadInput

HASH_BYTES = 32
_MAGIC = 0x4C445354  # "TSDL"
_VERSION = 1
_HEADER = struct.Struct(f"<II{HASH_BYTES}sIIII")
_CRC = struct.Struct("<I")
_WINDOW = 64
_LONGEST_ZEROS = 65 + 0x3FFF
_ZEROS, _BYTES, _NIBBLES, _MANY_ZEROS = 0x00, 0x40, 0x80, 0xC0
_LEAST_NIBBLES = 4
_WORTH_ZEROS, _WORTH_NIBBLES, _WORTH_ZEROS_IN_NIBBLES = 3, 6, 4


@dataclass(frozen=True)
class Delta:
    """What a delta holds. state: the whole block after it is applied. counter: of the export."""

    state: bytes
    counter: int


def encode_delta(base: bytes, state: bytes, base_hash: bytes, counter: int) -> bytes:
    """base, state: blocks of the same length. base_hash: SHA-256 of the model, 32 bytes."""
    if len(base) != len(state) or len(base_hash) != HASH_BYTES:
        raise ValueError(f"{len(state)} bytes of state for a base of {len(base)}")
    tokens = b"".join(_tokens(_difference(state, base)))
    crc = zlib.crc32(state)
    numbers = (_MAGIC, _VERSION, base_hash, counter, len(state), len(tokens), crc)
    data = _HEADER.pack(*numbers) + tokens
    return data + _CRC.pack(zlib.crc32(data))


def decode_delta(base: bytes, delta: bytes, base_hash: bytes) -> Delta:
    """Raises BadInput for a delta that is damaged, or of another model."""
    damaged = BadInput("the delta is damaged", expected="the bytes of an export, all of them")
    if len(delta) < _HEADER.size + _CRC.size:
        raise damaged
    body, crc = delta[: -_CRC.size], _CRC.unpack(delta[-_CRC.size :])[0]
    magic, version, of, counter, length, token_bytes, state_crc = _HEADER.unpack_from(delta)
    if magic != _MAGIC or crc != zlib.crc32(body):
        raise damaged
    if (version, of, length) != (_VERSION, base_hash, len(base)):
        raise BadInput(
            f"the delta is for model {of.hex()[:16]} with {length:,} bytes of state",
            expected=f"model {base_hash.hex()[:16]} with {len(base):,} bytes",
        )
    tokens = body[_HEADER.size :]
    differences = _differences(tokens, len(base)) if len(tokens) == token_bytes else None
    if differences is None:
        raise damaged
    state = (np.frombuffer(base, np.uint8) + differences).astype(np.uint8).tobytes()
    if zlib.crc32(state) != state_crc:
        raise damaged
    return Delta(state, counter)


def _difference(state: bytes, base: bytes) -> bytes:
    return (np.frombuffer(state, np.uint8) - np.frombuffer(base, np.uint8)).tobytes()


def _zeros(d: bytes, at: int, end: int) -> int:
    n = at
    while n < end and d[n] == 0:
        n += 1
    return n - at


def _nibbles(d: bytes, at: int, end: int) -> int:
    n = at
    while n < end and (d[n] + 8) % 256 < 16 and _zeros(d, n, end) < _WORTH_ZEROS_IN_NIBBLES:
        n += 1
    return n - at


def _single_bytes(d: bytes, at: int, end: int) -> int:
    n = at + 1
    while n < end and _zeros(d, n, end) < _WORTH_ZEROS and _nibbles(d, n, end) < _WORTH_NIBBLES:
        n += 1
    return n - at


def _tokens(d: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(d):
        end = min(at + _WINDOW, len(d))
        n = _zeros(d, at, end)
        if n == _WINDOW:
            n = _zeros(d, at, min(at + _LONGEST_ZEROS, len(d)))
        if n > _WINDOW:
            yield bytes([_MANY_ZEROS | (n - 65) >> 8, (n - 65) & 0xFF])
        elif n >= _WORTH_ZEROS or n == end - at:
            yield bytes([_ZEROS | n - 1])
        elif (n := _nibbles(d, at, end)) >= _LEAST_NIBBLES:
            halves = [v & 15 for v in d[at : at + n]] + [0] * (n % 2)
            packed = (a | b << 4 for a, b in zip(halves[::2], halves[1::2], strict=True))
            yield bytes([_NIBBLES | n - 1, *packed])
        else:
            n = _single_bytes(d, at, end)
            yield bytes([_BYTES | n - 1]) + d[at : at + n]
        at += n


def _differences(tokens: bytes, length: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]] | None:
    """uint8[length]; None when the tokens do not give exactly so many."""
    out = bytearray()
    at = 0
    while at < len(tokens):
        kind, n = tokens[at] & 0xC0, (tokens[at] & 0x3F) + 1
        size = {_BYTES: 1 + n, _NIBBLES: 1 + (n + 1) // 2, _MANY_ZEROS: 2}.get(kind, 1)
        token = tokens[at + 1 : at + size]
        if at + size > len(tokens):
            return None
        if kind == _BYTES:
            out += token
        elif kind == _NIBBLES:
            halves = [h for byte in token for h in (byte & 15, byte >> 4)][:n]
            out += bytes((h ^ 8) - 8 & 0xFF for h in halves)
        else:
            out += bytes(65 + ((n - 1) << 8 | token[0]) if kind == _MANY_ZEROS else n)
        if len(out) > length:
            return None
        at += size
    return np.frombuffer(bytes(out), np.uint8) if len(out) == length else None

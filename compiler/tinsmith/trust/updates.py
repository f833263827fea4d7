"""Authorises what a protected device learns from elsewhere: the owner's side of ts_update.h.

A delta for one device ends with a tag that only its secure world and the holder of the root secret
can make. The device takes deltas in the order of their sequence, each once.
"""

from __future__ import annotations

import hmac
import struct
from os import PathLike
from pathlib import Path

from ..codegen.state import stored_start
from ..codegen.training import base_hash
from ..errors import BadInput, CompileError
from ..train.delta import decode_delta
from . import keys
from .images import read_locked_training
from .manifest import check_manifest

STATE, DELTA = 2, 3  # TS_CHECK_STATE, TS_CHECK_DELTA
_DOMAIN = b"tinsmith update 1\0"
_NUMBERS = struct.Struct("<4I")
_SEQUENCE = struct.Struct("<I")
MAX_SEQUENCE = 2**32 - 1


def tag_of(key: bytes, base: bytes, kind: int, counter: int, data: bytes, sequence: int) -> bytes:
    """The tag of a stored state, or of a delta (counter 0), as the secure world makes it.

    key: of the device, for updates. base: what the model's stores are bound to, 32 bytes.
    """
    numbers = _NUMBERS.pack(kind, counter, len(data), sequence)
    code = hmac.digest(key, _DOMAIN + base + numbers + data, "sha256")
    return _SEQUENCE.pack(sequence) + code


def authorize_delta(
    folder: str | PathLike[str],
    delta: bytes,
    *,
    secret: str | PathLike[str],
    device: str,
    sequence: int,
) -> bytes:
    """The delta with its tag, for the device whose pair is in `folder`.

    secret: file with the root secret. sequence: 1 or more, larger than that of every delta the
    device has taken. Raises BadInput for a delta of another device, model or format, CompileError
    for a project that is not of this device or does not learn, NotAuthentic for a changed pair.
    """
    folder = Path(folder)
    manifest = check_manifest(folder)
    root = keys.read_secret(Path(secret))
    if manifest.device != device:
        raise CompileError(
            f"{folder} is of the device {manifest.device!r}, not of {device!r}",
            hint=f"`tinsmith protect` makes the pair of {device!r}; its deltas are its own",
        )
    if not 1 <= sequence <= MAX_SEQUENCE:
        raise BadInput(f"a sequence of {sequence}", expected=f"1 to {MAX_SEQUENCE:,}")
    training = read_locked_training(folder)
    if training is None:
        raise CompileError(
            f"the model of {folder} does not learn", hint="compile it with --train and --trust"
        )
    base = bytes.fromhex(base_hash(training))
    decode_delta(stored_start(training), delta, base)
    key = keys.device_key(root, manifest.model_hash, device, keys.UPDATES)
    return delta + tag_of(key, base, DELTA, 0, delta, sequence)

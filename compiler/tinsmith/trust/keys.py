"""The vendor's secrets: the root secret with the keys that devices get from it, the signing key.

The primitives are those of `cryptography`: HKDF-SHA256 (RFC 5869), Ed25519 (RFC 8032).
"""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from ..errors import BadInput, CompileError

KEY_BYTES = 32
UPDATES = "updates"  # the purpose of the key that authenticates stores and deltas
_DOMAIN = b"tinsmith trust 1"
_DEVICE = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_OWNER_ONLY = 0o600


def random_key() -> bytes:
    """32 bytes of the operating system's random generator."""
    return secrets.token_bytes(KEY_BYTES)


def new_secret(path: Path) -> None:
    """Write a root secret, 32 random bytes that only the owner may read.

    Raises CompileError when the file exists: what hangs on an old secret would be lost.
    """
    _write_new(path, random_key(), "a secret")


def read_secret(path: Path) -> bytes:
    """A root secret: any file of 32 bytes or more. Raises BadInput."""
    secret = _read(path, "root secret")
    if len(secret) < KEY_BYTES:
        raise BadInput(
            f"the root secret {path} has {len(secret)} bytes",
            expected=f"{KEY_BYTES} bytes or more, of a random generator",
            hint="`tinsmith protect --new-secret FILE` makes one",
        )
    return secret


def check_device(device: str) -> str:
    """The id of a device. Raises BadInput for one that does not read the same everywhere."""
    if not _DEVICE.fullmatch(device):
        raise BadInput(
            f"device id {device!r} cannot be used",
            expected="1 to 64 letters, digits and any of . _ : -",
        )
    return device


def permutations_of(mode: str) -> str:
    """The purpose of the key that `partition` takes: the orders of one mode tell nothing of those
    of another."""
    return f"permutation {mode}"


def device_key(secret: bytes, model_hash: str, device: str, purpose: str) -> bytes:
    """The 32-byte key of one device for one model and purpose: HKDF-SHA256 of the root secret.

    model_hash: hexadecimal, the salt. The info is a domain, the purpose and the device id, none of
    which contains the byte 0 that separates them.
    """
    info = b"\0".join([_DOMAIN, purpose.encode(), check_device(device).encode()])
    kdf = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=bytes.fromhex(model_hash), info=info)
    return kdf.derive(secret)


def new_signing_key(path: Path) -> Path:
    """Write a signing key (PEM, PKCS 8, for the owner only) and its public key beside it, as
    `<stem>.pub.pem`, whose path comes back. Raises CompileError when one of them exists."""
    key = Ed25519PrivateKey.generate()
    public = path.with_suffix(".pub.pem")
    if public.exists():
        raise _exists(public, "a key")
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _write_new(path, text, "a key")
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    _write_new(public, pem, "a key", 0o644)
    return public


def read_signing_key(path: Path) -> Ed25519PrivateKey:
    """Raises BadInput for anything but an Ed25519 private key in PEM without a password."""
    try:
        key = load_pem_private_key(_read(path, "signing key"), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _not_a_key(path, "private", error) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise _not_a_key(path, "private")
    return key


def read_public_key(path: Path) -> Ed25519PublicKey:
    """Raises BadInput for anything but an Ed25519 public key in PEM."""
    try:
        key = load_pem_public_key(_read(path, "public key"))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _not_a_key(path, "public", error) from None
    if not isinstance(key, Ed25519PublicKey):
        raise _not_a_key(path, "public")
    return key


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"cannot read the {what} {path}: {error.strerror}") from error


def _write_new(path: Path, data: bytes, what: str, mode: int = _OWNER_ONLY) -> None:
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        raise _exists(path, what) from None
    except OSError as error:
        raise CompileError(f"cannot write {path}: {error.strerror}") from error
    with os.fdopen(file, "wb") as stream:
        stream.write(data)


def _exists(path: Path, what: str) -> CompileError:
    return CompileError(
        f"{path} exists already", hint=f"{what} is never overwritten; choose another name"
    )


def _not_a_key(path: Path, kind: str, error: Exception | None = None) -> BadInput:
    reason = f": {error}" if isinstance(error, TypeError) else ""  # that it has a password
    return BadInput(
        f"{path} is not a {kind} key{reason}",
        expected=f"an Ed25519 {kind} key in PEM",
        hint="`tinsmith protect --new-signing-key FILE` makes a pair of keys",
    )

"""manifest.json of a protected project: what its two images are, signed with Ed25519.

Every manifest is signed; one that nobody asked to sign, with a key that is thrown away. So a change
always shows, and `verify_with` says whose signature it must be.
"""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from .. import __version__
from ..codegen.project import MANIFEST_FILE as FILE
from ..errors import CompileError, NotAuthentic

FORMAT = 1
NONSECURE_IMAGE, SECURE_IMAGE = "build/firmware.elf", "build/secure.elf"
_DOMAIN = b"tinsmith manifest 1\n"
_SEGMENT = struct.Struct("<QQ")


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What was made for whom. Hashes and keys in hexadecimal.

    model_hash: SHA-256 of the unprotected graph. nonsecure_sha256, secure_sha256: of the loadable
    bytes of the images. simulated: the secure world is a process of the host. public_key: of whom
    signed; signature: over everything else, see `signed_bytes`.
    """

    format: int = FORMAT
    tinsmith: str = __version__
    device: str
    model: str
    model_hash: str
    board: str
    mode: str
    simulated: bool
    nonsecure_sha256: str
    secure_sha256: str
    public_key: str = ""
    signature: str = ""

    def signed_bytes(self) -> bytes:
        """A domain, then the manifest without its signature as JSON, keys sorted, no spaces."""
        unsigned = msgspec.structs.replace(self, signature="")
        return _DOMAIN + msgspec.json.encode(unsigned, order="sorted")

    def signed(self, key: Ed25519PrivateKey) -> Manifest:
        """With its public key and signature."""
        public = key.public_key().public_bytes_raw().hex()
        named = msgspec.structs.replace(self, public_key=public)
        return msgspec.structs.replace(named, signature=key.sign(named.signed_bytes()).hex())


def image_hash(elf: Path) -> str:
    """SHA-256 of what is loaded: entry point, then address, length and bytes of every segment.

    Debug information and symbols do not count. Raises CompileError for a file that is not an ELF.
    """
    try:
        with elf.open("rb") as file:
            read = ELFFile(file)
            digest = hashlib.sha256(struct.pack("<Q", read.header.e_entry))
            for segment in read.iter_segments("PT_LOAD"):
                data = segment.data()
                digest.update(_SEGMENT.pack(segment.header.p_paddr, len(data)))
                digest.update(data)
            return digest.hexdigest()
    except (OSError, ELFError) as error:
        raise CompileError(f"the image {elf} cannot be read: {error}") from error


def write_manifest(folder: Path, manifest: Manifest) -> None:
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    (folder / FILE).write_bytes(text + b"\n")


def read_manifest(folder: Path) -> Manifest:
    """As it is, unverified. Raises NotAuthentic when it is missing or damaged."""
    path = folder / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except OSError as error:
        raise NotAuthentic(
            f"{folder} has two images and no manifest: {error.strerror}", hint=_AGAIN
        ) from error
    except msgspec.DecodeError as error:
        raise NotAuthentic(f"{path} cannot be read: {error}", hint=_AGAIN) from error


def check_manifest(folder: Path, verify_with: Ed25519PublicKey | None = None) -> Manifest:
    """The manifest of a protected project, after its signature and both images were verified.

    verify_with: whose signature it must be; None: of whom it names itself.
    Raises NotAuthentic, saying what was changed.
    """
    manifest = read_manifest(folder)
    _check_signature(folder / FILE, manifest, verify_with)
    images = {NONSECURE_IMAGE: manifest.nonsecure_sha256, SECURE_IMAGE: manifest.secure_sha256}
    for name, expected in images.items():
        if not (folder / name).is_file():
            raise NotAuthentic(f"{folder / name} is missing", hint=_AGAIN)
        found = image_hash(folder / name)
        if found != expected:
            raise NotAuthentic(
                f"{folder / name} is not the image of the manifest: its SHA-256 is {found}",
                expected=expected,
                hint=_AGAIN,
            )
    return manifest


def _check_signature(path: Path, manifest: Manifest, by: Ed25519PublicKey | None) -> None:
    if manifest.format != FORMAT:
        raise NotAuthentic(
            f"{path} has format {manifest.format}", expected=str(FORMAT), hint=_AGAIN
        )
    if by is not None and by.public_bytes_raw().hex() != manifest.public_key:
        raise NotAuthentic(
            f"{path} is signed by another key, {manifest.public_key}",
            expected=by.public_bytes_raw().hex(),
        )
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(manifest.public_key))
        key.verify(bytes.fromhex(manifest.signature), manifest.signed_bytes())
    except (ValueError, InvalidSignature):
        raise NotAuthentic(
            f"{path} was changed after it was signed: its signature is wrong", hint=_AGAIN
        ) from None


_AGAIN = "make the pair again, with `tinsmith protect`"

"""Binds a pair to another non-secure image: the product's own program in place of the harness."""

from __future__ import annotations

import shutil
from os import PathLike
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from elftools.common.exceptions import ELFError

from ..codegen.report import read_report
from ..errors import BadInput, CompileError, InternalError
from ..machine.board import load_board
from ..machine.trust_zone import load_trust_zone
from ..toolchain.image_record import image_record, write_record
from . import keys
from .manifest import (
    NONSECURE_IMAGE,
    SECURE_IMAGE,
    Manifest,
    check_manifest,
    image_hash,
    write_manifest,
)


def seal_image(
    folder: str | PathLike[str],
    image: str | PathLike[str],
    *,
    sign: str | PathLike[str] | None = None,
) -> Manifest:
    """Make `image` the only non-secure image that the pair in `folder` starts; sign anew.

    image: an ELF that was linked with `nonsecure/` and `secure/build/gateway.o` for the board's
    non-secure memory. sign: file with the signing key; None: a key of the moment.
    Raises NotAuthentic for a pair that was changed, BadInput for an image of other memory.
    """
    folder, image = Path(folder), Path(image)
    report = read_report(folder)
    board = load_board(report.board, report.target)
    manifest = check_manifest(folder)
    if board.is_host:
        raise CompileError(
            "a simulated pair cannot be bound to another image", hint="protect it for a board"
        )
    zone = load_trust_zone(board.name)
    try:
        image_record(image, zone)
    except (OSError, ELFError, InternalError) as error:
        raise BadInput(
            f"{image} is not a non-secure image of {board.name}: "
            f"{error.message if isinstance(error, CompileError) else error}",
            expected=f"an ELF that starts at {zone.non_secure.flash.origin:#x}",
        ) from error
    signer = keys.read_signing_key(Path(sign)) if sign else Ed25519PrivateKey.generate()
    shutil.copy(image, folder / NONSECURE_IMAGE)
    write_record(folder / SECURE_IMAGE, folder / NONSECURE_IMAGE, zone)
    sealed = msgspec.structs.replace(
        manifest,
        nonsecure_sha256=image_hash(folder / NONSECURE_IMAGE),
        secure_sha256=image_hash(folder / SECURE_IMAGE),
    ).signed(signer)
    write_manifest(folder, sealed)
    return sealed

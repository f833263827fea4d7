"""Writes into a secure image which non-secure image it may start (`runtime_c/secure/image.c`)."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

from elftools.elf.elffile import ELFFile

from ..errors import InternalError
from ..machine.trust_zone import TrustZone

SECTION = ".image_record"
MAX_PARTS = 6  # TS_IMAGE_PARTS


def write_record(secure: Path, nonsecure: Path, zone: TrustZone) -> None:
    """Changes the ELF `secure` in place; both ELFs must be linked for `zone`."""
    record = image_record(nonsecure, zone)
    with secure.open("r+b") as file:
        section = ELFFile(file).get_section_by_name(SECTION)
        if section is None or section.header.sh_size != len(record):
            raise InternalError(f"{secure.name} has no place for the hash of the other image")
        file.seek(int(section.header.sh_offset))
        file.write(record)


def image_record(nonsecure: Path, zone: TrustZone) -> bytes:
    """A `ts_image_record`: digest, part count, address ranges of what is loaded into flash.

    Raises InternalError for an image that does not start at the world's flash, where its vectors
    are, or lies outside.
    """
    parts = _loaded(nonsecure)
    flash = zone.non_secure.flash
    inside = all(flash.origin <= start and start + len(data) <= flash.end for start, data in parts)
    if not parts or parts[0][0] != flash.origin or not inside or len(parts) > MAX_PARTS:
        raise InternalError(f"{nonsecure.name} is not an image of the non-secure world's flash")
    digest = hashlib.sha256(b"".join(data for _, data in parts)).digest()
    ranges = [n for start, data in parts for n in (start, start + len(data))]
    ranges += [0] * (2 * MAX_PARTS - len(ranges))
    return digest + struct.pack(f"<{1 + 2 * MAX_PARTS}I", len(parts), *ranges)


def _loaded(elf: Path) -> list[tuple[int, bytes]]:
    """(address, bytes) of what a loader writes, in order."""
    with elf.open("rb") as file:
        segments = [s for s in ELFFile(file).iter_segments() if s.header.p_type == "PT_LOAD"]
        found = [(int(s.header.p_paddr), s.data()) for s in segments if s.header.p_filesz]
    return sorted(found)

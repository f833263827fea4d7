"""What firmware an ELF is: the build identifier that the linker put into it."""

from __future__ import annotations

from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

IDENTITY_BYTES = 20  # SHA-1 over what is linked
_SYMBOL = "ts_link_identity"


def identity_of(elf: Path) -> bytes | None:
    """None for a firmware that does not speak the serial link."""
    with elf.open("rb") as file:
        image = ELFFile(file)
        table = image.get_section_by_name(".symtab")
        if not isinstance(table, SymbolTableSection):
            return None
        symbols = table.get_symbol_by_name(_SYMBOL)
        if not symbols:
            return None
        address = symbols[0]["st_value"]
        for section in image.iter_sections():
            start = section["sh_addr"]
            if section.name == ".note.gnu.build-id" and start <= address:
                return section.data()[address - start : address - start + IDENTITY_BYTES]
    return None

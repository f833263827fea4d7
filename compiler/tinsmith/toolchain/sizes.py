"""Sizes of a linked firmware, from its ELF and link map: never estimates."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from ..errors import DoesNotFit, InternalError
from ..machine.board import Board

# " .text.kws_run  0x0000000000000048  0x3c build/obj/kws.o"; long names continue on the next line.
_CONTRIBUTION = re.compile(
    r"^ (\.[\w.$-]+)\s+0x([0-9a-f]+)\s+0x([0-9a-f]+)\s+(\S+\.o|\S+\.a\(\S+\))$", re.M
)
_IN_FLASH = (".vectors", ".text", ".rodata", ".data", ".srodata", ".sdata", ".ARM.ex")


@dataclass(frozen=True)
class Sizes:
    """Bytes of a firmware.

    flash_bytes: text + rodata + data. ram_bytes: data + bss, which holds the arena; no stack.
    stack_reserved_bytes: what the linker script keeps for the stack.
    model_flash_bytes: the part of flash that comes from the model's own sources. kernels_bytes: the
    part of it that TVM compiled.
    """

    flash_bytes: int
    ram_bytes: int
    stack_reserved_bytes: int
    model_flash_bytes: int
    kernels_bytes: int = 0


def measure_sizes(elf: Path, model_sources: Collection[str]) -> Sizes:
    """Read an ELF that `build` linked, and the map beside it.

    model_sources: stems of the model's C files, as "kws", "kws_weights".
    """
    flash = ram = 0
    with elf.open("rb") as file:
        read = ELFFile(file)
        for section in read.iter_sections():
            header = section.header
            if not header.sh_flags & SH_FLAGS.SHF_ALLOC:
                continue
            in_file = header.sh_type != "SHT_NOBITS"
            flash += header.sh_size if in_file else 0
            ram += header.sh_size if header.sh_flags & SH_FLAGS.SHF_WRITE else 0
        stack = _symbol(read, "ts_stack_top") - _symbol(read, "ts_stack_limit")
    map_file = elf.with_suffix(".map")
    kernels = [stem for stem in model_sources if stem.endswith("_kernels")]
    model_flash = _model_flash(map_file, model_sources)
    return Sizes(flash, ram, stack, model_flash, _model_flash(map_file, kernels))


def check_budget(
    sizes: Sizes,
    board: Board,
    *,
    ram: int | None = None,
    flash: int | None = None,
    node: str | None = None,
) -> None:
    """Raises DoesNotFit when the firmware exceeds a budget.

    ram, flash: bytes that the user allows; None: what the board has. The stack counts as RAM.
    node: the one with which the arena peaks, for the message.
    """
    needs = {
        "RAM": (sizes.ram_bytes + sizes.stack_reserved_bytes, ram or board.ram_bytes, node),
        "flash": (sizes.flash_bytes, flash or board.flash_bytes, None),
    }
    for kind, (needed, budget, blame) in needs.items():
        if budget is not None and needed > budget:
            stack = sizes.stack_reserved_bytes
            what = f" (with {stack:,} B of stack)" if kind == "RAM" and stack else ""
            raise DoesNotFit(
                f"the firmware needs {needed:,} B of {kind}{what}, {needed - budget:,} B more than "
                f"the budget of {budget:,} B for {board.name}",
                node=blame,
                hint="take a larger board or a smaller model",
            )


def _symbol(elf: ELFFile, name: str) -> int:
    """Address of a symbol; 0 where there is none: the linker reserves no stack on the host."""
    table = elf.get_section_by_name(".symtab")
    found = table.get_symbol_by_name(name) if isinstance(table, SymbolTableSection) else None
    return int(found[0]["st_value"]) if found else 0


def contributions(map_file: Path) -> Iterator[tuple[str, int, str]]:
    """What a link map says is in flash: section, bytes, and the object it came from, in a library
    as `library.a(object.o)`."""
    text = map_file.read_text()
    start = text.find("\nLinker script and memory map")  # after the discarded sections
    if start < 0:
        raise InternalError(f"{map_file.name} is not a link map")
    for name, _, size, origin in _CONTRIBUTION.findall(text, start):
        if name.startswith(_IN_FLASH):
            yield name, int(size, 16), origin


def _model_flash(map_file: Path, stems: Collection[str]) -> int:
    """Bytes in flash that the linker took from the objects of these sources."""
    return sum(size for _, size, origin in contributions(map_file) if Path(origin).stem in stems)

"""The instructions of an ELF by address, as the compiler's objdump prints them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import InternalError
from ..machine.board import Board
from .programs import find_program, run_program, tail

_LINE = re.compile(r"^\s*([0-9a-f]+):\t([0-9a-f ]+?)\s*\t(\S*)(?:\t(.*))?$")
_FUNCTION = re.compile(r"^([0-9a-f]+) <([^>]+)>:$")
_CALLED = re.compile(r"<([^>+]+)>")


@dataclass(frozen=True)
class Instruction:
    """address and bytes; mnemonic and operands without comments; function: the symbol it is in.

    mnemonic: "" of an instruction that objdump does not know.
    """

    address: int
    bytes: int
    mnemonic: str
    operands: str
    function: str

    @property
    def calls(self) -> str | None:
        """The function that a `bl`, or RISC-V's `jal`, goes to."""
        found = _CALLED.search(self.operands) if self.mnemonic in ("bl", "jal") else None
        return found.group(1) if found else None


def disassemble(elf: Path, board: Board) -> dict[int, Instruction]:
    """By address, in ascending order. Raises MissingTool, InternalError."""
    target = board.target
    name = re.sub(r"gcc$", "objdump", target.cc)
    objdump = find_program(name, target.debian_packages, f"reading code for {target.name}")
    # Without it objdump 2.40 prints most of Helium as instructions of unknown coprocessors.
    machine = ["-m", "armv8.1-m.main"] if "mve" in target.features else []
    done = run_program([objdump, "-d", *machine, elf.name], elf.parent)
    if done.returncode != 0:
        raise InternalError(f"{name} cannot read {elf}:\n{tail(done.stderr)}")
    found: dict[int, Instruction] = {}
    function = ""
    for line in done.stdout.splitlines():
        if starts := _FUNCTION.match(line):
            function = starts.group(2)
        elif parts := _LINE.match(line):
            address = int(parts.group(1), 16)
            code = parts.group(2).replace(" ", "")
            operands = re.split(r"\s*[;@]", parts.group(4) or "")[0]
            found[address] = Instruction(
                address, len(code) // 2, parts.group(3), operands, function
            )
    return found

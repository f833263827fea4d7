"""What every node executes, by address: from blocks that QEMU counts, without instrumentation."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..codegen.report import read_report
from ..errors import CompileError, InternalError
from ..machine.board import Board, emulated
from ..machine.cycles import price
from ..toolchain.disassembly import Instruction, disassemble
from ..toolchain.qemu_plugin import histogram_plugin
from .execute import trace_sequence
from .project import Project
from .protocol import Sample, TraceRecord

_VERSIONS = (1, 2, 3, 4)  # of QEMU's plugin interface: 7.2 takes 1, later ones begin higher
_WRONG_VERSION = re.compile(r"plugin.*(version|API|not supported)", re.IGNORECASE)
_TRACE = ("ts_trace", "ts_trace_raised")


@dataclass(frozen=True)
class Executed:
    """Of one node: instructions, estimated cycles (None without prices), and both by function.

    code_bytes: of the instructions that were executed at all.
    """

    instructions: int
    cycles: float | None
    functions: Mapping[str, tuple[int, float | None]]
    code_bytes: int = 0


@dataclass(frozen=True)
class _Block:
    first: int
    end: int
    count: int
    taken: int


def executed(project: Project, elf: Path, sample: Sample) -> list[Executed]:
    """Of every node, in order, on one sample. elf: built with a trace.

    Raises CompileError for a board whose emulator does not count blocks.
    """
    board = emulated(project.board)
    if not board.emulator or "qemu-system" not in board.emulator[0]:
        raise CompileError(f"the emulator of board {project.board.name} does not count addresses")
    code = disassemble(elf, board)
    marks = _marks(code, f"{read_report(project.folder).c_name}_run")
    with tempfile.TemporaryDirectory(prefix="tinsmith-") as folder:
        out = Path(folder) / "blocks"
        records = _counted(project, elf, sample, [f"out={out}", *marks])
        windows = list(_windows(out.read_text()))
    if len(windows) != len(records):
        raise InternalError(f"{len(windows)} windows were counted for {len(records)} records")
    blocks: list[list[_Block]] = [[] for _ in project.graph.nodes]
    for record, window in zip(records, windows, strict=True):
        blocks[record.node] += window
    return [_priced(b, code, board) for b in blocks]


def _counted(
    project: Project, elf: Path, sample: Sample, arguments: Sequence[str]
) -> list[TraceRecord]:
    """Run with the plugin, for the first version of its interface that the emulator takes."""
    types = [v.type for v in project.graph.outputs]
    for version in _VERSIONS:
        extra = ["-plugin", ",".join([str(histogram_plugin(version)), *arguments])]
        try:
            return trace_sequence(elf, project.board, [types], [sample], extra=extra)
        except InternalError as error:
            if not _WRONG_VERSION.search(str(error)):
                raise
    raise CompileError(
        "this emulator takes none of the known versions of QEMU's plugin interface",
        expected=f"one of {', '.join(map(str, _VERSIONS))}",
    )


def _marks(code: Mapping[int, Instruction], run: str) -> list[str]:
    """Windows open where the run is entered and where a trace call returns, and end at one."""
    found: list[str] = []
    entries: dict[str, int] = {}
    for instruction in code.values():
        entries.setdefault(instruction.function, instruction.address)
        if instruction.calls in _TRACE:
            found.append(f"start={instruction.address + instruction.bytes:x}")
    runs = [f"start={a:x}" for name, a in entries.items() if name == run]
    stops = [f"stop={entries[name]:x}" for name in _TRACE if name in entries]
    return [*runs, *found, *stops]


def _windows(text: str) -> Iterator[list[_Block]]:
    window: list[_Block] = []
    for line in text.splitlines():
        if line.startswith("stop"):
            yield window
            window = []
            continue
        first, end, count, taken = line.split()
        window.append(_Block(int(first, 16), int(end, 16), int(count), int(taken)))


def _priced(blocks: Sequence[_Block], code: Mapping[int, Instruction], board: Board) -> Executed:
    table = board.target.cycles
    instructions: dict[str, int] = {}
    cycles: dict[str, float] = {}
    seen: dict[int, int] = {}
    for block in blocks:
        address = block.first
        while address < block.end:
            instruction = code.get(address)
            if instruction is None:
                raise InternalError(f"no instruction at {address:#x} in the disassembly")
            # Before the end of a page QEMU looks at the first half of an instruction that crosses
            # it, counts that half to the block, and begins the next block there.
            if address + instruction.bytes > block.end:
                break
            seen[address] = instruction.bytes
            address += instruction.bytes
            function = instruction.function
            instructions[function] = instructions.get(function, 0) + block.count
            if table is not None:
                cost = price(table, instruction.mnemonic, instruction.operands)
                taken = block.taken if address == block.end else 0
                spent = block.count * cost.each + taken * cost.taken
                cycles[function] = cycles.get(function, 0.0) + spent
    total = sum(cycles.values()) if table is not None else None
    functions = {f: (n, cycles.get(f)) for f, n in instructions.items()}
    return Executed(sum(instructions.values()), total, functions, sum(seen.values()))

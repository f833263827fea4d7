"""Worst-case stack of a function in a linked ELF: frames × the deepest path of the call graph.

Calls and frames are read from the disassembly, so library and assembly functions count too; where
gcc wrote the size of a frame (`.su`), the larger of the two is taken. Interrupts come on top.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import networkx as nx

from ..errors import InternalError
from ..machine.board import Board
from .programs import find_program, run_program, tail

_FUNCTION = re.compile(r"^[0-9a-f]+ <([^>]+)>:$")
_INSTRUCTION = re.compile(r"^\s*[0-9a-f]+:\s+(\S+)\s*(.*)$")
_DESTINATION = re.compile(r"[0-9a-f]+ <([^>+]+)(\+0x[0-9a-f]+)?>")
_REGISTER = re.compile(r"([a-z]+)(\d*)(?:-[a-z]+(\d+))?")
_SUBTRACT = re.compile(r"sp, (?:sp, )?#(\d+)")
_PRE_INDEXED = re.compile(r"\[sp, #-(\d+)\]!")
_RISCV_ADD = re.compile(r"sp,sp,-(\d+)")
# libgcc's own, which give back by a register what they took too much of: the most that they take.
_SAVES_REGISTERS, _SAVED_BYTES = re.compile(r"__riscv_save_\d+"), 64
_JUMPS = ("b", "cb", "j", "call", "tail")
_CALLS = ("bl", "blx", "jal", "call")
_BY_REGISTER = re.compile(r"(?:mov|mv|sub|add)(?:\.w)? sp, ?(?:sp, ?)?(?!sp)[a-z]\w*")
_INDIRECT = {"blx": r"r\d+", "jalr": r"(?!ra$)", "jr": r"(?!ra$)"}


@dataclass(frozen=True)
class StackUse:
    """bytes: at most, from the function's entry down. path: the calls that reach it.

    indirect: functions on the way that call through a pointer; what they call is not counted.
    """

    bytes: int
    path: tuple[str, ...]
    indirect: tuple[str, ...]


@dataclass
class _Function:
    frame: int
    callees: set[str]
    indirect: bool = False
    moves_sp: str = ""  # an instruction by which the stack pointer moves as far as a register says


def worst_case_stack(elf: Path, board: Board, root: str) -> StackUse | None:
    """Stack of `root` and all it calls; None on the host, whose code is not analysed.

    `.su` files are looked for beside the ELF in `obj/`. Raises InternalError for recursion, a frame
    of unknown size, or a root that is not in the ELF.
    """
    if board.is_host:
        return None
    objdump = board.target.cc.removesuffix("gcc") + "objdump"
    program = find_program(objdump, board.target.debian_packages, "the stack analysis")
    done = run_program([program, "-d", "--no-show-raw-insn", elf.name], elf.parent)
    if done.returncode != 0:
        raise InternalError(f"{objdump} failed on {elf.name}: {tail(done.stderr)}")
    functions = _disassembled(done.stdout)
    if root not in functions:
        raise InternalError(f"{elf.name} has no function {root}")
    calls: nx.DiGraph[str] = nx.DiGraph()
    calls.add_node(root)
    calls.add_edges_from((name, to) for name, f in functions.items() for to in f.callees)
    calls = calls.subgraph({root} | nx.descendants(calls, root))
    if not nx.is_directed_acyclic_graph(calls):
        cycle = " → ".join(edge[0] for edge in nx.find_cycle(calls))
        raise InternalError(f"recursion below {root}: {cycle}")
    frames = _frame_sizes(elf.parent / "obj")
    frames |= {name: _SAVED_BYTES for name in calls if _SAVES_REGISTERS.fullmatch(name)}
    for name in calls:
        if name in functions and functions[name].moves_sp and not frames.get(name):
            raise InternalError(
                f"the frame of {name} has no fixed size: {functions[name].moves_sp}"
            )
    return _deepest(root, calls, functions, frames)


def _deepest(
    root: str,
    calls: nx.DiGraph[str],
    functions: Mapping[str, _Function],
    frames: Mapping[str, int],
) -> StackUse:
    depth: dict[str, int] = {}
    deepest_callee: dict[str, str] = {}
    for name in reversed(list(nx.topological_sort(calls))):
        below = {callee: depth[callee] for callee in calls.successors(name)}
        if below:
            deepest_callee[name] = max(sorted(below), key=lambda callee: below[callee])
        own = max(functions[name].frame if name in functions else 0, frames.get(name, 0))
        depth[name] = own + max(below.values(), default=0)
    path = [root]
    while path[-1] in deepest_callee:
        path.append(deepest_callee[path[-1]])
    indirect = tuple(sorted(n for n in calls if n in functions and functions[n].indirect))
    return StackUse(depth[root], tuple(path), indirect)


def _disassembled(text: str) -> dict[str, _Function]:
    functions: dict[str, _Function] = {}
    name = ""
    for line in text.splitlines():
        if start := _FUNCTION.match(line):
            name = start.group(1)
            functions[name] = _Function(0, set())
        elif name and (instruction := _INSTRUCTION.match(line)):
            mnemonic, operands = instruction.group(1), instruction.group(2)
            function = functions[name]
            function.frame += _pushed(mnemonic.removesuffix(".w"), operands)
            if _BY_REGISTER.fullmatch(f"{mnemonic} {operands}"):
                function.moves_sp = f"{mnemonic} {operands}"
            _add_call(function, name, mnemonic, operands)
    return functions


def _add_call(function: _Function, name: str, mnemonic: str, operands: str) -> None:
    destination = _DESTINATION.search(operands)
    if mnemonic.startswith("bf"):
        return  # a hint of a branch to come; objdump 2.40 shows VCTP, a loop's predicate, as BFCSEL
    if destination and mnemonic.startswith(_JUMPS):
        to, offset = destination.groups()
        recursive = mnemonic in _CALLS and offset is None
        if to != name or recursive:
            function.callees.add(to)
    elif mnemonic in _INDIRECT and re.match(_INDIRECT[mnemonic], operands):
        function.indirect = True


def _pushed(mnemonic: str, operands: str) -> int:
    """Bytes by which one instruction lowers the stack pointer."""
    if mnemonic in ("push", "vpush") or (
        mnemonic in ("stmdb", "vstmdb") and operands.startswith("sp!")
    ):
        return sum(_register_bytes(r) for r in re.findall(r"[^{}, ]+", operands.partition("{")[2]))
    if mnemonic in ("sub", "subw") and (match := _SUBTRACT.match(operands)):
        return int(match.group(1))
    if mnemonic.startswith("str") and (match := _PRE_INDEXED.search(operands)):
        return int(match.group(1))
    if mnemonic.startswith("vstr") and (match := _PRE_INDEXED.search(operands)):
        return int(match.group(1))
    if mnemonic in ("add", "addi") and (match := _RISCV_ADD.match(operands)):
        return int(match.group(1))
    return 0


def _register_bytes(text: str) -> int:
    """r4 or lr: 4; d8-d15: 64."""
    match = _REGISTER.fullmatch(text)
    if match is None:
        return 0
    kind, first, last = match.groups()
    count = int(last) - int(first) + 1 if last else 1
    return count * {"d": 8, "q": 16}.get(kind, 4)


def _frame_sizes(folder: Path) -> dict[str, int]:
    """Function → bytes from gcc's `.su` files: `file:line:column:name <tab> bytes <tab> kind`."""
    frames: dict[str, int] = {}
    for path in sorted(folder.glob("*.su")):
        for line in path.read_text().splitlines():
            place, size, kind = line.split("\t")
            name = place.rpartition(":")[2]
            if kind == "dynamic":
                raise InternalError(f"the frame of {name} has no fixed size")
            frames[name] = max(frames.get(name, 0), int(size))
    return frames

"""A board: a concrete machine and how to run programs on it. Data: `boards/<name>/board.toml`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import msgspec

from .. import paths
from ..errors import CompileError
from .target import Target, load_target

CounterKind = Literal["systick", "minstret", "none"]


class Region(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A range of addresses.

    name: "flash" and "ram" hold the program and its data; "boot", when present, the vector table.
    origin, bytes: where and how large. kind: what it is made of. world: which side of TrustZone.
    """

    name: str
    origin: int
    bytes: int
    kind: Literal["flash", "ram"]
    world: Literal["secure", "non-secure"] = "secure"


class Counter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How executed instructions are counted: `ticks` of the counter are `instructions`."""

    kind: CounterKind = "none"
    instructions: int = 1
    ticks: int = 1


class BoardFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of `board.toml`; unknown keys are errors.

    target: a name under `targets/`. clock_hz: of the core; 0 when it does not say.
    stack_bytes: reserved for the stack. regions: memory; none on the host.
    emulator: the command that runs `{elf}`; empty when there is none.
    twin: the emulated board with the same core, for a physical board.
    debian_packages: what provides the emulator.
    """

    name: str
    description: str
    target: str
    clock_hz: int = 0
    stack_bytes: int = 4096
    emulator: list[str] = []
    debian_packages: list[str] = []
    twin: str = ""
    counter: Counter = Counter()
    regions: list[Region] = []


@dataclass(frozen=True)
class Board:
    """See BoardFile."""

    name: str
    description: str
    target: Target
    clock_hz: int
    stack_bytes: int
    emulator: tuple[str, ...]
    debian_packages: tuple[str, ...]
    twin: str
    counter: Counter
    regions: tuple[Region, ...]

    def region(self, name: str) -> Region | None:
        return next((r for r in self.regions if r.name == name), None)

    @property
    def flash_bytes(self) -> int | None:
        """The budget of program and constants; None where memory is not limited (the host)."""
        region = self.region("flash")
        return region.bytes if region else None

    @property
    def ram_bytes(self) -> int | None:
        """The budget of arena, data, bss and stack; None where memory is not limited."""
        region = self.region("ram")
        return region.bytes if region else None

    @property
    def is_host(self) -> bool:
        return self.target.elf == "host"


@cache
def load_board(name: str) -> Board:
    """Raises CompileError for an unknown board, a bad file, or a target or twin that is unknown."""
    path = paths.BOARDS / name / "board.toml"
    if name not in board_names():
        raise CompileError(f"unknown board {name!r}", expected=f"one of {', '.join(board_names())}")
    try:
        data = msgspec.toml.decode(path.read_bytes(), type=BoardFile)
    except msgspec.DecodeError as error:
        raise CompileError(f"boards/{name}/board.toml: {error}") from error
    _check(name, data)
    return Board(
        name,
        data.description,
        load_target(data.target),
        data.clock_hz,
        data.stack_bytes,
        tuple(data.emulator),
        tuple(data.debian_packages),
        data.twin,
        data.counter,
        tuple(data.regions),
    )


def emulated(board: Board) -> Board:
    """What runs in place of `board`: itself, or its twin with this board's memory budgets.

    The twin keeps its own addresses; every region that both name takes the physical board's size.
    Raises CompileError when the twin's memory is smaller than the board's.
    """
    if not board.twin:
        return board
    twin = load_board(board.twin)
    regions: list[Region] = []
    for region in twin.regions:
        physical = board.region(region.name)
        size = physical.bytes if physical else region.bytes
        if size > region.bytes:
            raise CompileError(
                f"board {board.name}: {region.name} of {size:,} B is larger than that of its twin "
                f"{twin.name}, {region.bytes:,} B"
            )
        regions.append(msgspec.structs.replace(region, bytes=size))
    return replace(twin, regions=tuple(regions), stack_bytes=board.stack_bytes)


def board_names() -> list[str]:
    return sorted(p.parent.name for p in paths.BOARDS.glob("*/board.toml"))


def _check(name: str, data: BoardFile) -> None:
    """The rules between keys that the types do not say."""
    names = [r.name for r in data.regions]
    problems = {
        f"it says its name is {data.name!r}": data.name != name,
        "two regions have the same name": len(set(names)) != len(names),
        'its regions need "flash" and "ram"': bool(names) and not {"flash", "ram"} <= set(names),
        f"its twin {data.twin!r} is not a board": bool(data.twin)
        and data.twin not in board_names(),
        "it has both an emulator and a twin": bool(data.twin and data.emulator),
        "its stack is not a multiple of 8": data.stack_bytes % 8 != 0,
    }
    for problem, found in problems.items():
        if found:
            raise CompileError(f"boards/{name}/board.toml: {problem}")

"""A board: a concrete machine and how to run programs on it. Data: `boards/<name>/board.toml`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import msgspec

from .. import paths
from ..errors import CompileError
from .cpu import missing_flags, same_architecture
from .peripherals import Pin, Serial, Step
from .target import Target, load_target

CounterKind = Literal["systick", "minstret", "clock", "cycles", "none"]
Toolchain = Literal["", "android-ndk"]


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
    """How executed instructions are counted.

    kind: what counts; of "clock" the ticks are nanoseconds of a run on the machine itself, of
    "cycles" those of a physical core, and instructions are not counted. instructions, ticks: so
    many ticks are so many instructions.
    """

    kind: CounterKind = "none"
    instructions: int = 1
    ticks: int = 1


class Flash(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What writes firmware to a physical board.

    tool: the program, unless another is asked for. pyocd: the name of its target. pack: where that
    comes from, `pyocd pack install`; "": pyocd has it. openocd: its configuration files.
    reset: what happens after writing; "none" leaves the core halted.
    """

    tool: Literal["pyocd", "openocd"]
    pyocd: str = ""
    pack: str = ""
    openocd: list[str] = []
    reset: Literal["run", "hardware", "none"] = "run"


class BoardFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of `board.toml`; unknown keys are errors.

    target: a name under `targets/`. targets: several where there is a choice, best first.
    clock_hz: of the core; 0 when it does not say. stack_bytes: reserved for the stack.
    regions: memory; none on the host.
    emulator: the command that runs `{elf}`; empty when there is none. A machine of the target's own
    architecture does without. emulated_as: by target, what `{cpu}` stands for in it.
    ldflags: of the link, besides the target's. toolchain: where the compiler comes from; "": it is
    the target's.
    twin: the emulated board with the same core, for a physical board.
    debian_packages: what provides the emulator. counter: how instructions are counted.
    serial: the UART of firmware for the serial link.
    flash: what writes to a physical board; None where nothing does.
    setup: what its firmware does first, whatever the harness: clocks, wait states, pins.
    caches: the core's caches are then emptied and switched on.
    pin: of timestamps, in energy mode of MLPerf Tiny.
    """

    name: str
    description: str
    target: str = ""
    targets: list[str] = []
    clock_hz: int = 0
    stack_bytes: int = 4096
    emulator: list[str] = []
    emulated_as: dict[str, str] = {}
    ldflags: list[str] = []
    toolchain: Toolchain = ""
    debian_packages: list[str] = []
    twin: str = ""
    counter: Counter = Counter()
    regions: list[Region] = []
    serial: Serial | None = None
    flash: Flash | None = None
    setup: list[Step] = []
    caches: bool = False
    pin: Pin | None = None


@dataclass(frozen=True)
class Board:
    """See BoardFile. target: the one that was chosen of `targets`."""

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
    targets: tuple[str, ...] = ()
    ldflags: tuple[str, ...] = ()
    toolchain: Toolchain = ""
    serial: Serial | None = None
    flash: Flash | None = None
    setup: tuple[Step, ...] = ()
    caches: bool = False
    pin: Pin | None = None

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
        """Whether its programs are processes of an operating system."""
        return self.target.elf == "host"

    @property
    def is_native(self) -> bool:
        """Whether its programs run on this machine as they are."""
        return self.is_host and not self.toolchain and same_architecture(self.target)

    @property
    def portable(self) -> Board:
        """The same board for kernels in portable C alone."""
        if self.target.tvm is None:
            return self
        alignment = load_target("host").arena_alignment
        return replace(self, target=replace(self.target, tvm=None, arena_alignment=alignment))


@cache
def load_board(name: str, cpu: str | None = None) -> Board:
    """A board; `cpu` names one of its targets. Without it the board is for the best target that
    this machine's processor has, or where it has none of them, for the best.

    Raises CompileError for an unknown board, a bad file, or a target or twin that is unknown.
    """
    path = paths.BOARDS / name / "board.toml"
    if name not in board_names():
        raise CompileError(f"unknown board {name!r}", expected=f"one of {', '.join(board_names())}")
    try:
        data = msgspec.toml.decode(path.read_bytes(), type=BoardFile)
    except msgspec.DecodeError as error:
        raise CompileError(f"boards/{name}/board.toml: {error}") from error
    _check(name, data)
    targets = data.targets or [data.target]
    target = _choose(name, [load_target(t) for t in targets], cpu)
    emulated_as = data.emulated_as.get(target.name, "")
    return Board(
        name,
        data.description,
        target,
        data.clock_hz,
        data.stack_bytes,
        tuple(part.replace("{cpu}", emulated_as) for part in data.emulator),
        tuple(data.debian_packages),
        data.twin,
        data.counter,
        tuple(data.regions),
        tuple(targets),
        tuple(data.ldflags),
        data.toolchain,
        data.serial,
        data.flash,
        tuple(data.setup),
        data.caches,
        data.pin,
    )


def _choose(board: str, targets: Sequence[Target], cpu: str | None) -> Target:
    if cpu is None:
        here = (t for t in targets if same_architecture(t) and not missing_flags(t))
        return next(here, targets[0])
    for target in targets:
        if target.name == cpu:
            return target
    names = ", ".join(t.name for t in targets)
    raise CompileError(f"board {board} has no target {cpu!r}", expected=f"one of {names}")


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
        "it has neither target nor targets, or both": bool(data.target) == bool(data.targets),
        "emulated_as names what is none of its targets": bool(
            set(data.emulated_as) - {*data.targets, data.target}
        ),
        "two regions have the same name": len(set(names)) != len(names),
        'its regions need "flash" and "ram"': bool(names) and not {"flash", "ram"} <= set(names),
        f"its twin {data.twin!r} is not a board": bool(data.twin)
        and data.twin not in board_names(),
        "it has both an emulator and a twin": bool(data.twin and data.emulator),
        "it has an emulator; [flash] is of physical boards": bool(data.flash and data.emulator),
        "[flash] does not say what its tool needs": data.flash is not None
        and not (data.flash.pyocd if data.flash.tool == "pyocd" else data.flash.openocd),
        "its stack is not a multiple of 8": data.stack_bytes % 8 != 0,
    }
    for problem, found in problems.items():
        if found:
            raise CompileError(f"boards/{name}/board.toml: {problem}")

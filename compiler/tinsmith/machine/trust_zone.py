"""How a board's memory is divided between the two worlds. Data: `boards/<name>/trust.toml`."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise

import msgspec

from .. import paths
from ..errors import CompileError
from .board import Board, Region

SAU_GRANULE = 32  # bytes: what a region of the SAU starts and ends on
SAU_REGIONS = 8
_SECURE_ALIAS = 1 << 28  # of an address, on every board of Arm's and ST's


class Window(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A range of addresses, as its owner uses them. origin: the first. bytes: how many."""

    origin: int
    bytes: int

    @property
    def end(self) -> int:
        return self.origin + self.bytes


class SecureWorld(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the secure image lies in.

    flash: code, weights. veneers: the entries that the other world may call, nothing else.
    ram: stack, data, arena. stack_bytes: reserved at the start of `ram`.
    """

    flash: Window
    veneers: Window
    ram: Window
    stack_bytes: int


class NonSecureWorld(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the non-secure image lies in.

    flash, ram: its program and data. peripherals: what the SAU leaves it; the board's own
    controllers say which of them are really its. others: memory that the images do not use.
    uart: it has the board's UART and the pins, which it uses by the non-secure address.
    """

    flash: Window
    ram: Window
    peripherals: Window
    others: list[Window] = []
    uart: bool = False


class Mpc(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A memory protection controller (Arm SIE-200). base: of its registers. non_secure: a part of
    the memory behind it, by offset; the rest is secure."""

    base: int
    non_secure: Window = Window(0, 0)


class Mpcbb(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A block-based controller (ST GTZC).

    base: of its registers. words: of its SECCFGR. secure: the whole memory.
    """

    base: int
    words: int
    secure: bool


class Register(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A word of the board's own controllers. name: for the reader. address: of the word. set: the
    bits to set in it."""

    name: str
    address: int
    set: int


class TrustZone(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of `trust.toml`; unknown keys are errors.

    secure, non_secure: what each world has. mpc, mpcbb, registers: written at boot, in this order
    but `registers` first. locks: written last. requires: what the board needs besides, for the
    reader.
    """

    secure: SecureWorld
    non_secure: NonSecureWorld
    mpc: list[Mpc] = []
    mpcbb: list[Mpcbb] = []
    registers: list[Register] = []
    locks: list[Register] = []
    requires: list[str] = []

    @property
    def windows(self) -> tuple[Window, ...]:
        """Non-secure regions of the SAU; the gateway knows flash and RAM by their numbers."""
        world = self.non_secure
        return (world.flash, world.ram, world.peripherals, *world.others)


@cache
def load_trust_zone(name: str) -> TrustZone:
    """Raises CompileError for a board without a secure world, or a bad file."""
    path = paths.BOARDS / name / "trust.toml"
    if not path.is_file():
        raise CompileError(
            f"board {name} has no secure world that tinsmith knows",
            expected=f"one of {', '.join(trust_board_names())}",
        )
    try:
        zone = msgspec.toml.decode(path.read_bytes(), type=TrustZone)
    except msgspec.DecodeError as error:
        raise CompileError(f"boards/{name}/trust.toml: {error}") from error
    _check(name, zone)
    return zone


def trust_board_names() -> list[str]:
    """Boards that can hold a protected project."""
    return sorted(p.parent.name for p in paths.BOARDS.glob("*/trust.toml"))


def secure_board(board: Board, zone: TrustZone) -> Board:
    """`board` as the secure image sees it."""
    regions = (
        _region("flash", zone.secure.flash, "flash"),
        _region("veneers", zone.secure.veneers, "flash"),
        _region("ram", zone.secure.ram, "ram"),
    )
    return replace(board, regions=regions, stack_bytes=zone.secure.stack_bytes, twin="")


def non_secure_board(board: Board, zone: TrustZone) -> Board:
    """`board` as the non-secure image sees it."""
    regions = (
        msgspec.structs.replace(_region(n, w, n), world="non-secure")
        for n, w in (("flash", zone.non_secure.flash), ("ram", zone.non_secure.ram))
    )
    serial = board.serial
    if serial is not None:
        serial = msgspec.structs.replace(serial, address=serial.address & ~_SECURE_ALIAS)
    return replace(board, regions=tuple(regions), twin="", serial=serial)


def _region(name: str, window: Window, kind: str) -> Region:
    return Region(name, window.origin, window.bytes, "flash" if kind == "flash" else "ram")


def _check(name: str, zone: TrustZone) -> None:
    """The rules between keys that the types do not say."""
    secure, other = zone.secure, zone.non_secure
    windows = [secure.flash, secure.veneers, secure.ram, *zone.windows]
    ordered = sorted(windows, key=lambda window: window.origin)
    problems = {
        "a range is not a multiple of 32 bytes": any(
            w.origin % SAU_GRANULE or w.bytes % SAU_GRANULE or not w.bytes for w in windows
        ),
        "the SAU has 8 regions, one of them for the veneers": len(zone.windows) > SAU_REGIONS - 1,
        "two ranges overlap": any(a.end > b.origin for a, b in pairwise(ordered)),
        "the secure stack is not a multiple of 8": secure.stack_bytes % 8 != 0,
        "its non-secure vectors need 512-byte alignment": other.flash.origin % 512 != 0,
    }
    for problem, found in problems.items():
        if found:
            raise CompileError(f"boards/{name}/trust.toml: {problem}")

"""What the non-secure world can reach: nothing of the secure one, by no alias, jump or pointer.

Each probe is a run of its own, which a fault ends. The controls open what the board's table
closes; there the same probes succeed, so a probe that is refused says something.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import msgspec
import pytest

from tinsmith.machine.trust_zone import Mpc, Register, TrustZone, Window, load_trust_zone

from .trust_pair import (
    BOARDS,
    BYTES,
    CALL,
    GAVE_UP,
    JUMP,
    OK,
    PUSH,
    READ,
    REFUSED,
    WRITE,
    Outcome,
    Pair,
    build_probe,
    run_steps,
    set_request,
)

SECURE_BIT = 1 << 28  # of an address
SAU_CTRL, AIRCR = 0xE000EDD0, 0xE000ED0C
RESET = 0x05FA0004  # AIRCR.SYSRESETREQ with its key
INVALID_ENTRY, VIOLATION = 1 << 0, 1 << 3  # SFSR.INVEP, SFSR.AUVIOL
BUS_FAULT, SECURE_FAULT = 5, 7
UART1 = {"mps2-an505": 0x5020_1000, "mps3-an547": 0x5930_4000}
Step = tuple[int, ...]


def ram(pair: Pair) -> int:
    """The gateway's state: its second word is not zero."""
    return pair.secrets["state"] + 4


def code(pair: Pair) -> int:
    return pair.secrets["ts_serve"]


def veneers(pair: Pair) -> int:
    return pair.zone.secure.veneers.origin


def uart(pair: Pair) -> int:
    return UART1[pair.board.name]


def divider(pair: Pair) -> int:
    """UART1's BAUDDIV, which reads as it was written, by its non-secure alias."""
    return (uart(pair) & ~SECURE_BIT) + 0x10


def alias(place: Callable[[Pair], int]) -> Callable[[Pair], int]:
    return lambda pair: place(pair) & ~SECURE_BIT


def read(place: Callable[[Pair], int]) -> Callable[[Pair], list[Step]]:
    return lambda pair: [(READ, place(pair))]


def write(place: Callable[[Pair], int], value: int = 0) -> Callable[[Pair], list[Step]]:
    return lambda pair: [(WRITE, place(pair), value)]


def jump(place: Callable[[Pair], int]) -> Callable[[Pair], list[Step]]:
    return lambda pair: [(JUMP, place(pair))]


# What is tried, and the fault that ends it: exception and bit of SFSR.
FAULTS: dict[str, tuple[Callable[[Pair], list[Step]], int, int]] = {
    "read secure RAM": (read(ram), SECURE_FAULT, VIOLATION),
    "read secure RAM, alias": (read(alias(ram)), SECURE_FAULT, VIOLATION),
    "read secure code": (read(code), SECURE_FAULT, VIOLATION),
    "read secure code, alias": (read(alias(code)), SECURE_FAULT, VIOLATION),
    "read veneers": (read(veneers), SECURE_FAULT, VIOLATION),
    "read veneers, alias": (read(alias(veneers)), SECURE_FAULT, VIOLATION),
    "read secure peripheral": (read(uart), SECURE_FAULT, VIOLATION),
    "write secure RAM": (write(ram), SECURE_FAULT, VIOLATION),
    "write secure RAM, alias": (write(alias(ram)), SECURE_FAULT, VIOLATION),
    "write secure code, alias": (write(alias(code)), SECURE_FAULT, VIOLATION),
    "write the memory controller": (
        lambda pair: [(WRITE, pair.zone.mpc[0].base, 0xFFFF_FFFF)],
        SECURE_FAULT,
        VIOLATION,
    ),
    "jump into secure code": (jump(code), SECURE_FAULT, INVALID_ENTRY),
    "jump into secure code, alias": (jump(alias(code)), SECURE_FAULT, INVALID_ENTRY),
    "jump past the gateway's SG": (jump(lambda p: veneers(p) + 4), SECURE_FAULT, INVALID_ENTRY),
    "jump to the gateway behind its veneer": (
        jump(lambda pair: pair.secrets["__acle_se_ts_gateway_call"]),
        SECURE_FAULT,
        INVALID_ENTRY,
    ),
    "switch the SAU off, read secure RAM": (
        lambda pair: [(WRITE, SAU_CTRL, 0), (READ, ram(pair))],
        SECURE_FAULT,
        VIOLATION,
    ),
}

# Pointers of a request, from the address of something secure; the call returns and is refused.
POINTERS: dict[str, Callable[[Pair, int], list[Step]]] = {
    "request": lambda pair, at: [(CALL, 0, at)],
    "input": lambda pair, at: [*set_request(pair, at), (CALL, 0)],
    "second input": lambda pair, at: [
        *set_request(pair, pair.symbols["probe_input"], at),
        (CALL, 0),
    ],
    "output": lambda pair, at: [*set_request(pair, output=at), (CALL, 0)],
}


def opened_zone(board: str, *, memory: bool) -> TrustZone:
    """The SAU gives secure RAM's alias away; `memory`: its controller too, but for the stack."""
    zone = load_trust_zone(board)
    data = Window((zone.secure.ram.origin & ~SECURE_BIT) + 0x1000, 0x1000)
    world = msgspec.structs.replace(zone.non_secure, others=[data])
    controllers = [
        Mpc(m.base, Window(0x1000, 0x1000)) if memory and not m.non_secure.bytes else m
        for m in zone.mpc
    ]
    return msgspec.structs.replace(zone, non_secure=world, mpc=controllers)


def opened_uart(board: str) -> TrustZone:
    """The peripheral controller gives UART1 away too: its bit is above UART0's."""
    zone = load_trust_zone(board)
    registers = [
        Register(r.name, r.address, r.set << 1 | r.set) if "UART0" in r.name else r
        for r in zone.registers
    ]
    return msgspec.structs.replace(zone, registers=registers)


@pytest.fixture(scope="module")
def pair_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Pair]:
    @cache
    def build(board: str) -> Pair:
        return build_probe(tmp_path_factory.mktemp(board), board)

    return build


def ended_by(outcome: Outcome) -> tuple[int, int]:
    """(exception, SFSR) that the secure world reports."""
    assert outcome.status == GAVE_UP, outcome
    found = re.search(r"why 0x(\w+) SFSR 0x(\w+)", outcome.log)
    assert found is not None, outcome.log
    return int(found.group(1), 16), int(found.group(2), 16)


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("probe", FAULTS)
def test_it_ends_in_a_fault(
    board: str, probe: str, pair_of: Callable[[str], Pair], tmp_path: Path
) -> None:
    steps, exception, cause = FAULTS[probe]
    pair = pair_of(board)
    outcome = run_steps(pair, tmp_path / "run", steps(pair))
    got, why = ended_by(outcome)
    assert got == exception
    assert why & cause == cause
    last = len(steps(pair)) - 1
    assert len(outcome.data) <= 4 * last  # the step that faults has no answer


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("secret", ["RAM", "code", "RAM alias", "veneers", "peripheral"])
def test_secure_pointers_are_refused(
    board: str, secret: str, pair_of: Callable[[str], Pair], tmp_path: Path
) -> None:
    pair = pair_of(board)
    places = {"RAM": ram, "code": code, "RAM alias": alias(ram), "veneers": veneers}
    at = places.get(secret, uart)(pair) & ~3
    for name, steps in POINTERS.items():
        outcome = run_steps(pair, tmp_path / name, [*set_request(pair), *steps(pair, at)])
        assert (outcome.status, outcome.words[-1]) == (OK, REFUSED), name


@pytest.mark.parametrize("board", BOARDS)
def test_what_is_allowed_works(board: str, pair_of: Callable[[str], Pair], tmp_path: Path) -> None:
    """The gateway answers after the other world wrote to SAU and AIRCR, and read its own."""
    pair = pair_of(board)
    own = pair.symbols["probe_output"]
    tampering = [(WRITE, SAU_CTRL, 0), (READ, SAU_CTRL), (WRITE, AIRCR, RESET), (READ, own)]
    outcome = run_steps(pair, tmp_path / "run", [*tampering, *set_request(pair), (CALL, 0)])
    assert outcome.status == OK
    assert outcome.words[1] == 0
    assert outcome.words[3] == 0xA5A5A5A5
    assert outcome.words[-1] == OK


@pytest.mark.parametrize("board", BOARDS)
def test_the_other_world_keeps_to_its_stack(
    board: str, pair_of: Callable[[str], Pair], tmp_path: Path
) -> None:
    """The secure world sets its limit: a fault, where without one a fault comes far below."""
    pair = pair_of(board)
    words = pair.board.stack_bytes // 4
    fits = run_steps(pair, tmp_path / "fits", [(PUSH, words - 256)])
    assert (fits.status, fits.words) == (OK, (words - 256,))
    over = run_steps(pair, tmp_path / "over", [(PUSH, words + 1)])
    assert over.status == GAVE_UP
    assert over.data == b""


@pytest.mark.parametrize("board", BOARDS)
def test_control_an_open_world_leaks(board: str, tmp_path: Path) -> None:
    """With SAU and memory controller open the second word of the gateway's state comes out."""
    pair = build_probe(tmp_path / "pair", board, zone=opened_zone(board, memory=True))
    outcome = run_steps(pair, tmp_path / "run", [(READ, ram(pair) & ~SECURE_BIT)])
    assert (outcome.status, outcome.words) == (OK, (0xFFFF_FFFF,))


@pytest.mark.parametrize("board", BOARDS)
def test_a_secure_peripheral_is_not_reached_by_its_alias(
    board: str, pair_of: Callable[[str], Pair], tmp_path: Path
) -> None:
    """SECRESPCFG asks for a bus error; QEMU 7.2 ignores the write and reads zero."""
    pair = pair_of(board)
    outcome = run_steps(pair, tmp_path / "run", [(WRITE, divider(pair), 0x55)])
    assert (outcome.status, outcome.words) == (OK, (0,))


@pytest.mark.parametrize("board", BOARDS)
def test_control_an_open_peripheral_is_reached(board: str, tmp_path: Path) -> None:
    pair = build_probe(tmp_path / "pair", board, zone=opened_uart(board))
    outcome = run_steps(pair, tmp_path / "run", [(WRITE, divider(pair), 0x55)])
    assert (outcome.status, outcome.words) == (OK, (0x55,))


def test_the_memory_controller_holds_when_the_sau_is_open(tmp_path: Path) -> None:
    """Defence in depth on the board whose secure RAM has a controller: a bus error."""
    pair = build_probe(
        tmp_path / "pair", "mps2-an505", zone=opened_zone("mps2-an505", memory=False)
    )
    outcome = run_steps(pair, tmp_path / "run", [(READ, ram(pair) & ~SECURE_BIT)])
    assert ended_by(outcome)[0] == BUS_FAULT
    assert outcome.data == b""


def test_a_region_may_be_all_of_a_tensor_but_no_more(
    pair_of: Callable[[str], Pair], tmp_path: Path
) -> None:
    """The last bytes of the world's RAM hold a tensor; one word further is refused."""
    pair = pair_of("mps2-an505")
    end = pair.zone.non_secure.ram.end
    for name, at, expected in (("in", end - BYTES, OK), ("over", end - BYTES + 4, REFUSED)):
        outcome = run_steps(pair, tmp_path / name, [*set_request(pair, output=at), (CALL, 0)])
        assert (outcome.status, outcome.words[-1]) == (OK, expected)

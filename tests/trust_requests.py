"""Calls of the gateway: one for every reason to refuse, and those that it must answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .trust_pair import BYTES, Pair, edit_source

QUOTA = 3


@dataclass(frozen=True)
class Request:
    """A call as the gateway meets it. next, used, busy: its state. Addresses: None: the good one.

    at: where the request lies. odd: by how many bytes it is moved from there.
    """

    call: int = 0
    at: int | None = None
    odd: int = 0
    first: int | None = None
    second: int | None = None
    output: int | None = None
    next: int = 0
    used: int = 0
    busy: int = 0


def refusals(pair: Pair) -> Mapping[str, Request]:
    """One request for every reason to refuse; but for that reason each is a good one."""
    ram, flash = pair.zone.non_secure.ram, pair.zone.non_secure.flash
    secret = canary(pair)
    return {
        "request null": Request(at=0),
        "request in secure memory": Request(at=secret),
        "request misaligned": Request(odd=2),
        "request across the end of memory": Request(at=ram.end - 8),
        "request wraps": Request(at=0xFFFF_FFF8),
        "input null": Request(first=0),
        "input in secure memory": Request(first=secret),
        "second input in secure memory": Request(second=secret),
        "input across the end of memory": Request(first=ram.end - BYTES + 4),
        "input wraps": Request(first=0xFFFF_FFE0),
        "input in a peripheral": Request(second=pair.zone.non_secure.peripherals.origin),
        "input misaligned": Request(first=pair.symbols["probe_input"] + 2),
        "output null": Request(output=0),
        "output in secure memory": Request(output=secret),
        "output in flash": Request(output=flash.end - 2 * BYTES),
        "output across the end of memory": Request(output=ram.end - BYTES + 4),
        "output wraps": Request(output=0xFFFF_FFE0),
        "output misaligned": Request(output=pair.symbols["probe_output"] + 1),
        "call unknown": Request(call=2),
        "call far away": Request(call=0xFFFF_FFFF),
        "call out of order": Request(call=1),
        "quota exhausted": Request(used=2 * QUOTA),
        "call from within a call": Request(busy=1),
        # two reasons must not cancel each other
        "out of order, output in secure memory": Request(call=1, output=secret),
        "quota exhausted, input in secure memory": Request(used=2 * QUOTA, first=secret),
    }


def accepted() -> Mapping[str, Request]:
    """Requests that must be answered: they show that an answer is noticed."""
    return {"call 0": Request(), "call 1": Request(call=1, next=1, used=2 * QUOTA - 1)}


def aligned_to_words(secure: Path) -> None:
    """Pretend that the tensors are of int32, so that a misaligned one can be refused."""
    edits = {
        ".input_alignment = {1, 1}": ".input_alignment = {4, 4}",
        ".output_alignment = 1": ".output_alignment = 4",
    }
    edit_source(secure / "harness" / "gateway_binding.c", edits)


def canary(pair: Pair) -> int:
    """Secure memory that nothing uses: the end of the RAM."""
    return pair.zone.secure.ram.end - 4 * BYTES

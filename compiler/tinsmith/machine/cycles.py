"""Estimated cycles: executed instructions priced by class. The prices are in `target.toml`.

An estimate, never a measurement: for cores that issue one instruction at a time from memory
without wait states. What it is good for is to see through an instruction count, in which a load of
eight registers is one.
"""

from __future__ import annotations

import re

import msgspec

_CONDITIONS = "eq|ne|cs|cc|hs|lo|mi|pl|vs|vc|hi|ls|ge|lt|gt|le|al"
_BRANCH = re.compile(rf"(b({_CONDITIONS})?|blx?|bx|cbn?z|tb[bh]|le(tp)?|wls(tp)?)(\.[nw])?")
_MULTIPLE = re.compile(r"(v?ldm|v?stm|v?push|v?pop|vscclrm)")
_DOUBLE = re.compile(r"(ldrd|strd|ldrexd|strexd)")
_LOAD, _STORE = re.compile(r"v?ld[ra]"), re.compile(r"v?st[rl]")
_VECTOR = re.compile(r"v\w+\.([suif]|p)?(8|16|32|64)\b")
_SCALAR_FLOAT = re.compile(r"\bs\d+\b|\bd\d+\b")
_GATHER = re.compile(r"\[[^\]]*\bq\d")
_RANGE = re.compile(r"([rsdq])(\d+)-\1(\d+)")


class Cycles(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The `[cycles]` table: the price of an instruction, in cycles, by class.

    source: where the prices are from. load, store: of one register. double: LDRD and STRD.
    multiple: LDM, STM, PUSH, POP, before the registers, each of which costs one. branch: one that
    is taken. vector: an instruction on Helium registers. gather: an element of a vector load or
    store whose addresses are a vector. other: everything else, and a branch that is not taken.
    """

    source: str
    load: float
    store: float
    double: float
    multiple: float
    branch: float
    vector: float = 1
    gather: float = 1
    other: float = 1


class Price(msgspec.Struct, frozen=True):
    """Of one instruction. taken: more, each time that the branch it is was taken."""

    each: float
    taken: float = 0.0


def price(cycles: Cycles, mnemonic: str, operands: str) -> Price:
    """What an instruction costs, from its disassembly as objdump prints it."""
    if _BRANCH.fullmatch(mnemonic):
        return Price(cycles.other, cycles.branch - cycles.other)
    if _is_vector(mnemonic, operands):
        elements = 128 // int(_width(mnemonic)) if _GATHER.search(operands) else 0
        return Price(elements * cycles.gather if elements else cycles.vector)
    if _MULTIPLE.match(mnemonic):
        leaves = cycles.branch - cycles.other if _registers_hold(operands, "pc") else 0.0
        return Price(cycles.multiple + _registers(operands), leaves)
    if _DOUBLE.match(mnemonic):
        return Price(cycles.double)
    if _LOAD.match(mnemonic):
        return Price(cycles.load)
    return Price(cycles.store if _STORE.match(mnemonic) else cycles.other)


def _is_vector(mnemonic: str, operands: str) -> bool:
    if not mnemonic.startswith("v") or _SCALAR_FLOAT.search(operands):
        return False
    return bool(_VECTOR.match(mnemonic) or re.search(r"\bq\d", operands))


def _width(mnemonic: str) -> str:
    found = _VECTOR.match(mnemonic)
    return found.group(2) if found else "32"


def _registers(operands: str) -> int:
    """How many registers the braces hold; a double counts as two."""
    inside = operands[operands.find("{") + 1 : operands.rfind("}")]
    count = 0
    for part in (p.strip() for p in inside.split(",")):
        span = _RANGE.fullmatch(part)
        words = 2 if part.startswith("d") else 1
        count += words * (int(span.group(3)) - int(span.group(2)) + 1 if span else 1)
    return count


def _registers_hold(operands: str, register: str) -> bool:
    return register in re.split(r"[{},\s]+", operands)

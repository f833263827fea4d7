"""A target: how to generate and compile C for an instruction set. From `targets/*/target.toml`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import msgspec

from .. import paths
from ..errors import CompileError

Elf = Literal["arm", "riscv", "host"]


class TargetFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of `target.toml`; unknown keys are errors.

    features: what kernels may use: "dsp" (SMLAD…), "mve" (Helium integer), "fpu" (single
    precision), "unaligned" (unaligned word access), "hwdiv".
    cc: compiler command; cflags: of every compile and link; ldflags: of the link.
    arena_alignment: bytes. elf: selects the start-up code and linker script of the harness.
    debian_packages: what provides the compiler and its C library.
    """

    name: str
    description: str
    cc: str
    cflags: list[str]
    ldflags: list[str]
    features: list[str]
    arena_alignment: int
    elf: Elf
    debian_packages: list[str] = []


@dataclass(frozen=True)
class Target:
    """See TargetFile."""

    name: str
    description: str
    cc: str
    cflags: tuple[str, ...]
    ldflags: tuple[str, ...]
    features: frozenset[str]
    arena_alignment: int
    elf: Elf
    debian_packages: tuple[str, ...]


@cache
def load_target(name: str) -> Target:
    """Raises CompileError for an unknown target or a bad file."""
    folder = paths.TARGETS / name
    if not (folder / "target.toml").is_file():
        raise CompileError(
            f"unknown target {name!r}", expected=f"one of {', '.join(target_names())}"
        )
    try:
        data = msgspec.toml.decode((folder / "target.toml").read_bytes(), type=TargetFile)
    except msgspec.DecodeError as error:
        raise CompileError(f"targets/{name}/target.toml: {error}") from error
    if data.name != name:
        raise CompileError(f"targets/{name}/target.toml says its name is {data.name!r}")
    return Target(
        name,
        data.description,
        data.cc,
        tuple(data.cflags),
        tuple(data.ldflags),
        frozenset(data.features),
        data.arena_alignment,
        data.elf,
        tuple(data.debian_packages),
    )


def target_names() -> list[str]:
    return sorted(p.parent.name for p in paths.TARGETS.glob("*/target.toml"))

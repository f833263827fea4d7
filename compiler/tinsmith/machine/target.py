"""A target: how to generate and compile C for an instruction set. From `targets/*/target.toml`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

import msgspec

from .. import paths
from ..errors import CompileError
from .costs import Cost
from .cycles import Cycles

Elf = Literal["arm", "riscv", "host"]
Dot = Literal["vnni512", "vnni256", "madd256", "sdot", "smlal"]


class Isa(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The `[tvm]` table: what TVM must know of the instruction set (docs/tvm.md).

    triple, mcpu, mattr: LLVM's names. dot: the dot-product intrinsic. lanes: int32 lanes of one
    accumulator register. registers: vector registers that a tile may use. storage_offset: 128
    where activations inside the model are stored as uint8 = q + 128, else 0.
    cpu_flags: what /proc/cpuinfo must list for it to run on a machine.
    tiles: (layer, pixels, vectors) found by `tinsmith tune` (`machine/tuned.py`); none in a file.
    """

    triple: str
    mcpu: str
    dot: Dot
    lanes: int
    registers: int
    mattr: tuple[str, ...] = ()
    storage_offset: Literal[0, 128] = 0
    cpu_flags: tuple[str, ...] = ()
    tiles: tuple[tuple[str, int, int], ...] = ()

    def tile(self, layer: str) -> tuple[int, int] | None:
        """The tile that was found for a layer."""
        return next(((p, v) for name, p, v in self.tiles if name == layer), None)


class TargetFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of `target.toml`; unknown keys are errors.

    features: what kernels may use: "dsp" (SMLAD…), "mve" (Helium integer), "fpu" (single
    precision), "unaligned" (unaligned word access), "hwdiv".
    cc: compiler command; cflags: of every compile and link; ldflags: of the link.
    arena_alignment: bytes. elf: selects the start-up code and linker script of the harness.
    debian_packages: what provides the compiler and its C library.
    tvm: for a target whose kernels come from TVM. cuda: the GPU that its kernels run on, "sm_90".
    cycles: prices of instructions, where they are
    known.
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
    tvm: Isa | None = None
    cuda: str = ""
    cycles: Cycles | None = None


@dataclass(frozen=True)
class Target:
    """See TargetFile. measured: by kernel and layer, what `tune` found (`machine/measured.py`)."""

    name: str
    description: str
    cc: str
    cflags: tuple[str, ...]
    ldflags: tuple[str, ...]
    features: frozenset[str]
    arena_alignment: int
    elf: Elf
    debian_packages: tuple[str, ...]
    tvm: Isa | None = None
    cuda: str = ""
    cycles: Cycles | None = None
    measured: Mapping[str, Cost] = field(default_factory=dict[str, Cost], compare=False)


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
        data.tvm,
        data.cuda,
        data.cycles,
    )


def target_names() -> list[str]:
    return sorted(p.parent.name for p in paths.TARGETS.glob("*/target.toml"))

"""The processor of this machine: which instruction sets it has."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

from .target import Target

_CPUINFO = Path("/proc/cpuinfo")
_FLAG_LINES = ("flags", "Features")  # x86, Arm


def same_architecture(target: Target) -> bool:
    """Whether the programs of a target with a triple run on this machine without an emulator, if
    its processor has the flags they need."""
    if target.tvm is None:
        return target.elf == "host"
    return platform.system() == "Linux" and target.tvm.triple.startswith(f"{platform.machine()}-")


def missing_flags(target: Target) -> tuple[str, ...]:
    """What this machine's processor lacks of what a target uses, as /proc/cpuinfo calls it."""
    needed = target.tvm.cpu_flags if target.tvm is not None else ()
    return tuple(flag for flag in needed if flag not in cpu_flags())


@cache
def cpu_flags() -> frozenset[str]:
    """The flags of the first processor; none where the system does not tell."""
    if not _CPUINFO.is_file():
        return frozenset()
    for line in _CPUINFO.read_text(errors="replace").splitlines():
        name, _, flags = line.partition(":")
        if name.strip() in _FLAG_LINES:
            return frozenset(flags.split())
    return frozenset()

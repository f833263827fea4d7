"""What lowering gives: a source, and how its kernels are launched. Nothing here imports TVM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Launch:
    """One kernel of the source.

    parameters: names of the PrimFunc's buffers, in the kernel's order. grid, block: x, y, z.
    """

    kernel: str
    parameters: tuple[str, ...]
    grid: tuple[int, int, int]
    block: tuple[int, int, int]


@dataclass(frozen=True)
class DeviceCode:
    """source: CUDA C++ with every kernel. launches: by the PrimFunc's symbol, in order."""

    source: str
    launches: Mapping[str, tuple[Launch, ...]]

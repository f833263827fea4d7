"""What the templates of a model for a GPU see: rows of tables, and the tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class LaunchView(NamedTuple):
    """One launch. kernel: its index; arguments: how many, from `first_argument` on."""

    comment: str
    kernel: int
    first_argument: int
    arguments: int
    grid: tuple[int, int, int]
    block: tuple[int, int, int]


class ArgumentView(NamedTuple):
    """A pointer: region "ARENA" or "WEIGHTS", offset in bytes."""

    region: str
    offset: int


class ConstantView(NamedTuple):
    """An array of the weights file, and where it lies on the device."""

    name: str
    bytes: int
    offset: int


class CopyView(NamedTuple):
    """A graph input or output: offsets in the caller's memory and in the device's arena."""

    host_offset: int
    device_offset: int
    bytes: int


class CudaTraceView(NamedTuple):
    """An output of a node that is there after so many launches."""

    node: int
    launches: int
    offset: int
    bytes: int


@dataclass(frozen=True)
class CudaView:
    """The tables of `runtime_c/cuda/ts_cuda.h`. Sizes in bytes."""

    source: str  # CUDA C++
    arch: str
    capability: tuple[int, int]
    kernels: tuple[str, ...]
    launches: tuple[LaunchView, ...]
    arguments: tuple[ArgumentView, ...]
    constants: tuple[ConstantView, ...]
    inputs: tuple[CopyView, ...]
    outputs: tuple[CopyView, ...]
    traces: tuple[CudaTraceView, ...]
    arena_bytes: int
    weights_bytes: int
    host_bytes: int
    state: CopyView | None = None  # of a model that learns: copied in, and by a step also back

"""What `report.json` holds.

The compiler fills the facts it knows; the toolchain adds sizes read from the linked ELF, the runner
what it measured. `None` means: not measured yet.
"""

from __future__ import annotations

import msgspec

from .. import __version__

SCHEMA_VERSION = 1


class Place(msgspec.Struct, frozen=True):
    """A value in the arena. offset, bytes: in bytes."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    offset: int
    bytes: int


class Port(msgspec.Struct, frozen=True):
    """A graph input or output.

    shape: as the device has it. onnx_shape: as the model file has it. layout: the permutation from
    the file's axes to the device's, None where they are the same. scale, zero_point: of int8.
    """

    name: str
    shape: tuple[int, ...]
    onnx_shape: tuple[int, ...]
    layout: tuple[int, ...] | None
    dtype: str
    bytes: int
    offset: int
    scale: float | None = None
    zero_point: int | None = None


class NodeReport(msgspec.Struct, frozen=True):
    """One node in the order of execution.

    index: as `ts_trace` counts. kernel: "" where the output is in place already. macs: of the
    operator. bytes: of its constants in flash. inputs, outputs: the activations in the arena.
    scratch_offset: None without scratch.
    """

    index: int
    name: str
    op: str
    onnx_name: str
    onnx_op: str
    kernel: str
    macs: int
    bytes: int
    inputs: tuple[Place, ...]
    outputs: tuple[Place, ...]
    scratch_bytes: int = 0
    scratch_offset: int | None = None


class Report(msgspec.Struct, kw_only=True):
    """The whole report. Sizes in bytes.

    flash_bytes: text, read-only data and initialised data of the ELF; model_flash_bytes: the
    model's part of it. ram_bytes: arena, data and bss. stack_bytes: the deepest use.

    Of a model that learns, else None: train_ram_bytes: state, training arena, data and bss (the
    same as ram_bytes: one arena serves both entry points). train_nodes: of a training step.
    """

    schema_version: int = SCHEMA_VERSION
    tinsmith: str = __version__
    model: str
    c_name: str
    model_hash: str
    board: str
    target: str
    dtype: str
    macs: int
    weights_bytes: int
    arena_bytes: int
    arena_lower_bound_bytes: int
    arena_proved_optimal: bool
    peak_node: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    nodes: tuple[NodeReport, ...]
    notes: tuple[str, ...] = ()
    flash_bytes: int | None = None
    model_flash_bytes: int | None = None
    ram_bytes: int | None = None
    stack_bytes: int | None = None
    instructions_per_inference: int | None = None
    state_bytes: int | None = None
    train_arena_bytes: int | None = None
    train_arena_lower_bound_bytes: int | None = None
    train_peak_node: str | None = None
    train_macs: int | None = None
    train_inputs: tuple[Port, ...] = ()
    train_nodes: tuple[NodeReport, ...] = ()
    train_ram_bytes: int | None = None
    train_step_instructions: int | None = None

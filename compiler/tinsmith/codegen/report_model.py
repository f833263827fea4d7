"""What `report.json` holds.

The compiler fills the facts it knows; the toolchain adds sizes read from the linked ELF, the runner
what it measured. `None` means: not measured yet.
"""

from __future__ import annotations

import msgspec

from .. import __version__

SCHEMA_VERSION = 1


class Place(msgspec.Struct, frozen=True):
    """A value in the arena.

    name: of the value. shape, dtype: as the device has it. offset, bytes: in bytes.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    offset: int
    bytes: int


class Port(msgspec.Struct, frozen=True):
    """A graph input or output.

    name: in the model file. shape: as the device has it. onnx_shape: as the model file has it.
    layout: the permutation from the file's axes to the device's, None where they are the same.
    dtype: of an element. offset, bytes: where it lies in the arena. scale, zero_point: of int8.
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

    index: as `ts_trace` counts. name, op: of the node. onnx_name, onnx_op: of the node of the model
    file that it was made from. kernel: "" where the output is in place already. macs: of the
    operator. bytes: of its constants in flash. inputs, outputs: the activations in the arena.
    scratch_bytes, scratch_offset: 0 and None without scratch.
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


class KernelCode(msgspec.Struct, frozen=True):
    """The code of a kernel.

    kernel: its name. layers: that it computes. bytes: of all its functions, but for what the
    compiler put into the run itself.
    """

    kernel: str
    layers: int
    bytes: int


class FlashReport(msgspec.Struct, frozen=True, kw_only=True):
    """What flash_bytes consists of.

    constants_bytes: all arrays of the model; weights_bytes: the filters as the model has them,
    which kernels may pack in a larger form. code: kernel by kernel. compiled_bytes: the object of
    TVM. run_bytes: the run, the API, and kernels that the compiler put into them. harness_bytes:
    what only these firmwares have: start, vectors, files, counters. runtime_bytes: sources of
    `runtime/`. library_bytes: from the C compiler's libraries. padding_bytes: between all of these.
    """

    constants_bytes: int
    weights_bytes: int
    code: tuple[KernelCode, ...]
    compiled_bytes: int
    run_bytes: int
    harness_bytes: int
    runtime_bytes: int
    library_bytes: int
    padding_bytes: int


class TrustReport(msgspec.Struct, frozen=True):
    """How a protected project is divided.

    mode: as `--trust`. device: for which it was made. simulated: the secure world is a process of
    the host, which protects nothing. quota: queries the gateway answers per boot; None: any number.
    cut: where; channels: of the value that leaves the gateway. bridge: the nodes that the secure
    world has. parameters_above: before the cut, with the bridge; parameters_withheld: the bridge's;
    parameters_below: after the cut; parameters_locked: those of them that are permuted.
    classes: how many orders of channels are secret. release: the secure image has no semihosting
    and resets when it gives up; always so on a board without an emulator. requires: what the board
    needs besides the images, before they protect anything.
    """

    mode: str
    device: str
    simulated: bool
    quota: int | None
    cut: str
    channels: int
    bridge: tuple[str, ...]
    parameters_above: int
    parameters_withheld: int
    parameters_below: int
    parameters_locked: int
    classes: int
    release: bool = False
    requires: tuple[str, ...] = ()


class SourceReport(msgspec.Struct, frozen=True):
    """What a project was compiled from.

    file: the model file's name, "" for a model in memory. sha256: of the file. producer: what
    wrote it. calibration_sha256: of the file of samples, None without one.
    """

    file: str
    sha256: str
    producer: str
    calibration_sha256: str | None = None


class Report(msgspec.Struct, kw_only=True):
    """The whole report. Sizes in bytes.

    schema_version: of this file. tinsmith: the version that wrote it. model: its name; c_name: in
    C. model_hash: of the compiled graph, which binds stores and deltas to it. source: the files it
    was compiled from. board, target, dtype: what it was compiled for. macs: multiplications of an
    inference. weights_bytes: of the constants. arena_bytes: of the buffers of an inference;
    arena_lower_bound_bytes: no plan is smaller; arena_proved_optimal: they are equal, or a search
    was complete; peak_node: where the most is live. inputs, outputs: of the model. nodes: of an
    inference. notes: what the user should hear of.

    flash_bytes: text, read-only data and initialised data of the ELF; model_flash_bytes: the
    model's part of it; flash: where it goes, None on the host. ram_bytes: arena, data and bss.
    stack_bytes: the deepest use.

    optimize: what kernels were chosen for; pinned_kernels: those that were given, by node.

    arena_strategy: how the layers run; arena_bound_counts: what the arena's lower bound counts.

    kernels_bytes: of a board whose kernels come from TVM code and constants of the object that TVM
    compiled. latency_us: the median time of one inference, after `bench` on a machine of the
    board's kind; latency_threads: with so many threads. instructions_per_inference: after `bench`
    in an emulator; cycles_per_inference: on a physical board at a port.

    removed_channels: that were proven constant or unread, and are not computed (0: none).
    removed_macs, removed_weight_bytes: what they would have cost.

    Of a model that learns, else None: state_bytes: weights and biases that learn, and what their
    rule keeps. train_arena_bytes, train_arena_lower_bound_bytes, train_arena_proved_optimal,
    train_arena_bound_counts, train_arena_strategy, train_peak_node, train_macs: of a training step,
    as those of an inference. train_inputs: of a training step. train_step_instructions: after
    `bench`. train_ram_bytes: state, training arena, data and bss (the
    same as ram_bytes: one arena serves both entry points). train_nodes: of a training step.

    Of a protected project, else None: trust: how it is divided. Then sizes, arena and nodes are of
    the non-secure image, macs, model_hash and instructions_per_inference of the whole.
    secure_flash_bytes, secure_ram_bytes: of the secure image. gateway_calls: per inference.
    train_gateway_calls: per training step. secure_instructions: spent in gateway calls, after
    `bench`; train_secure_instructions: in those of a step; bridge_instructions: what the nodes that
    the secure world took over cost in the unprotected model; plain_instructions: that model's
    total; overhead_instructions: how many more the protected model executes.
    """

    schema_version: int = SCHEMA_VERSION
    tinsmith: str = __version__
    model: str
    c_name: str
    model_hash: str
    source: SourceReport | None = None
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
    arena_bound_counts: str = ""
    arena_strategy: str = ""
    removed_channels: int = 0
    removed_macs: int = 0
    removed_weight_bytes: int = 0
    flash_bytes: int | None = None
    model_flash_bytes: int | None = None
    flash: FlashReport | None = None
    ram_bytes: int | None = None
    stack_bytes: int | None = None
    kernels_bytes: int | None = None
    latency_us: float | None = None
    latency_threads: int | None = None
    instructions_per_inference: int | None = None
    cycles_per_inference: int | None = None
    state_bytes: int | None = None
    train_arena_bytes: int | None = None
    train_arena_lower_bound_bytes: int | None = None
    train_arena_proved_optimal: bool | None = None
    train_arena_bound_counts: str = ""
    train_arena_strategy: str = ""
    train_peak_node: str | None = None
    train_macs: int | None = None
    train_inputs: tuple[Port, ...] = ()
    train_nodes: tuple[NodeReport, ...] = ()
    train_ram_bytes: int | None = None
    train_step_instructions: int | None = None
    optimize: str = "instructions"
    pinned_kernels: dict[str, str] = {}
    trust: TrustReport | None = None
    secure_flash_bytes: int | None = None
    secure_ram_bytes: int | None = None
    gateway_calls: int | None = None
    train_gateway_calls: int | None = None
    train_secure_instructions: int | None = None
    secure_instructions: int | None = None
    bridge_instructions: int | None = None
    plain_instructions: int | None = None
    overhead_instructions: int | None = None

"""What the templates see: frozen records of plain text and numbers."""

from __future__ import annotations

from dataclasses import dataclass

from .cuda_views import CudaView


@dataclass(frozen=True)
class PortView:
    """A graph input or output. `macro` is the stem of its macros, as KWS_INPUT_0."""

    index: int
    name: str
    comment: str
    macro: str
    c_type: str
    shape: tuple[int, ...]
    elements: int
    bytes: int
    offset: int
    scale: float | None
    zero_point: int | None
    sample: str  # name of the array of the embedded sample
    is_float: bool


@dataclass(frozen=True)
class ArrayView:
    """A `const` array: its declaration without storage class, and its elements."""

    name: str
    declaration: str
    comment: str
    table: str
    alignment: int


@dataclass(frozen=True)
class FunctionView:
    """One rendered kernel, and the nodes that call it."""

    comment: str
    text: str


@dataclass(frozen=True)
class TraceView:
    """Where an output of a node lies: in `block`, the arena or the state.

    raised: its integers are stored as uint8, 128 above their value.
    """

    block: str
    offset: int
    bytes: int
    raised: bool = False


@dataclass(frozen=True)
class StepView:
    """One node in the run function. `call` is empty when the node needs no code."""

    comment: str
    call: str
    traces: tuple[TraceView, ...]  # of each output


@dataclass(frozen=True)
class StateView:
    """A part of the state. `start`: the array with its first content; empty: zeros."""

    comment: str
    offset: int
    bytes: int
    start: str


@dataclass(frozen=True)
class TrainView:
    """The training entry point. Offsets are in the arena; `classes` is None without a label,
    `loss_offset` without a loss; `base_hash` is SHA-256 in hexadecimal. stored_bytes: of the state,
    what stores hold. batch: samples to an update. sealed_offset: in the state, of what the secure
    world seals; None without."""

    base_hash: str
    arena_bytes: int
    macs: int
    inputs: tuple[PortView, ...]
    outputs: tuple[PortView, ...]
    rate_offset: int
    loss_offset: int | None
    label_offset: int
    classes: int | None
    steps: tuple[StepView, ...]
    state_bytes: int
    stored_bytes: int
    batch: int
    state: tuple[StateView, ...]
    sealed_offset: int | None = None
    cuda: CudaView | None = None


@dataclass(frozen=True)
class ModelView:
    """The whole model. `name` prefixes functions, `macro` prefixes macros."""

    name: str
    macro: str
    title: str
    version: str
    model_hash: str
    runtime_version: int
    arena_bytes: int
    arena_alignment: int
    macs: int
    weights_bytes: int
    inputs: tuple[PortView, ...]
    outputs: tuple[PortView, ...]
    functions: tuple[FunctionView, ...]
    steps: tuple[StepView, ...]
    weights: tuple[ArrayView, ...]
    samples: tuple[ArrayView, ...]
    uses_float: bool
    uses_gateway: bool
    compiled: bool = False  # with kernels that TVM compiled
    raises: bool = False  # some activations are stored as uint8
    cuda: CudaView | None = None  # of a model that runs on a GPU
    train: TrainView | None = None

"""Trains a compiled project on the host or in the emulator of its board, step by step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from os import PathLike

import numpy as np

from ..codegen.project import read_training_graph
from ..codegen.state import StateBlock, sealed_state
from ..codegen.training import base_hash
from ..errors import BadInput, InternalError, Refused
from ..ir.dtypes import Array, DType, TensorType
from ..ir.graph import Graph, Value
from ..toolchain.gate_view import CODE_BYTES
from ..trust.images import read_backward, read_locked_training
from ..trust.learning_files import read_places
from ..trust.sealed import seal, unseal
from ..trust.state_order import to_locked, to_plain
from .execute import Progress, run_sequence
from .project import (
    Inputs,
    Project,
    check_gpu,
    check_images,
    count_instructions,
    device_samples,
    open_project,
)
from .protocol import REFUSED, Command, Result, Sample

State = Mapping[Value, Array]


@dataclass(frozen=True)
class SecuredState:
    """The state in secure memory, of which the device's other state holds a sealed copy.

    numbers: of the states, among those of the training graph. graph: whose state it is in the
    secure image, in the same order. key: 32 bytes, of the device.
    """

    numbers: tuple[int, ...]
    graph: Graph
    key: bytes = field(repr=False)

    @property
    def base_hash(self) -> bytes:
        return bytes.fromhex(base_hash(self.graph))


@dataclass(frozen=True)
class TrainingProject:
    """A compiled project that learns, read back.

    graph: its training graph; states are in its order. locked, orders: of a protected project the
    training graph of the non-secure image, and where the elements of every state lie there.
    secured: the states that are in secure memory, if any.
    """

    project: Project
    graph: Graph
    locked: Graph | None = None
    orders: tuple[Array, ...] = ()
    secured: SecuredState | None = None

    @cached_property
    def block(self) -> StateBlock:
        """How the device holds the state; the keys are values of `graph`, and of `locked` the
        sealed copy of what is in secure memory."""
        block = StateBlock.of(self.locked or self.graph)
        if self.locked is None:
            return block
        sealed = sealed_state(self.locked)
        theirs = [v for v in self.locked.state if v != sealed]
        elsewhere = self.secured.numbers if self.secured else ()
        mine = [v for i, v in enumerate(self.graph.state) if i not in elsewhere]
        names = dict(zip(theirs, mine, strict=True))
        return replace(block, offsets={names.get(v, v): at for v, at in block.offsets.items()})

    @cached_property
    def base_hash(self) -> bytes:
        """What stores and deltas of the model are bound to, 32 bytes."""
        return bytes.fromhex(base_hash(self.locked or self.graph))

    def pack(self, state: State) -> Array:
        """The state as the device holds it: uint8[STATE_BYTES]."""
        packed = np.zeros(self.block.bytes, np.uint8)
        for value, offset in self.block.offsets.items():
            if value in state:
                self._put(packed, offset, value, state[value])
        if self.secured is not None and self.locked is not None:
            held = np.zeros(self._secure_block.stored_bytes, np.uint8)
            for value, offset in self._secure_block.offsets.items():
                self._put(held, offset, value, state[value])
            blob = seal(self.secured.key, self.secured.base_hash, held.tobytes())
            at = self._sealed_at(self.locked)
            packed[at : at + len(blob)] = np.frombuffer(blob, np.uint8)
        return packed

    def stored(self, state: State) -> bytes:
        """What stores and deltas hold of a state."""
        return self.pack(state)[: self.block.stored_bytes].tobytes()

    def unpack(self, packed: Array) -> dict[Value, Array]:
        """The inverse of `pack`, in the order of `graph.state`. Raises NotAuthentic for what secure
        layers have learnt on another device."""
        raw, offsets = packed.tobytes(), self.block.offsets
        found = {v: self._taken(raw, at, v) for v, at in offsets.items() if v in self.graph.state}
        if self.secured is not None and self.locked is not None:
            at = self._sealed_at(self.locked)
            end = at + CODE_BYTES + self._secure_block.stored_bytes
            held = unseal(self.secured.key, self.secured.base_hash, raw[at:end])
            for value, offset in self._secure_block.offsets.items():
                start = self.graph.initializers[value]
                found[value] = start if held is None else self._taken(held, offset, value)
        return {v: found[v] for v in self.graph.state}

    @cached_property
    def _secure_block(self) -> StateBlock:
        """Of the state in secure memory; the keys are values of `graph`."""
        assert self.secured is not None
        block, theirs = StateBlock.of(self.secured.graph), self.secured.graph.state
        names = {v: self.graph.state[i] for v, i in zip(theirs, self.secured.numbers, strict=True)}
        return replace(block, offsets={names[v]: at for v, at in block.offsets.items()})

    def _sealed_at(self, locked: Graph) -> int:
        sealed = sealed_state(locked)
        assert sealed is not None
        return self.block.offsets[sealed]

    def _put(self, packed: Array, offset: int, value: Value, array: Array) -> None:
        raw = self._moved(to_locked, value, np.ascontiguousarray(array)).tobytes()
        packed[offset : offset + len(raw)] = np.frombuffer(raw, np.uint8)

    def _taken(self, raw: bytes, offset: int, value: Value) -> Array:
        type_ = value.type
        flat = np.frombuffer(raw, type_.dtype.numpy, type_.elements, offset)
        return self._moved(to_plain, value, flat.reshape(type_.shape).copy())

    def _moved(self, move: Callable[[Array, Array], Array], value: Value, array: Array) -> Array:
        if self.locked is None:
            return array
        return move(array, self.orders[self.graph.state.index(value)])

    def steps(
        self, samples: Sequence[Array], given: Array, rates: Array
    ) -> tuple[list[Sample], list[Sequence[TensorType]]]:
        """A command per step, and the types of its answer."""
        labels = [np.reshape(g, self.graph.inputs[-2].type.shape) for g in given]
        rows = zip(*samples, labels, rates[:, None], strict=True)
        commands = [Sample(tuple(row), command=Command.TRAIN) for row in rows]
        loss, *outputs = (v.type for v in (self.graph.outputs[-1], *self.graph.outputs[:-1]))
        return commands, [[loss, *outputs]] * len(commands)

    @property
    def state_type(self) -> TensorType:
        return TensorType((self.block.bytes,), DType.UINT8)


@dataclass(frozen=True)
class TrainResult:
    """What the device did.

    Attributes:
        losses: float32[steps], each before its update.
        outputs: per model output [steps, *shape] in the device's layout, before the update.
        state: every state after the last step; keys are values of the training graph.
        instructions: executed, per step; None on the host.
        stack_painted_bytes: the deepest stack use seen; 0 on the host.
    """

    losses: Array
    outputs: tuple[Array, ...]
    state: State
    instructions: Array | None
    stack_painted_bytes: int

    @property
    def instructions_per_step(self) -> int | None:
        """The mean over the steps, rounded."""
        return None if self.instructions is None else round(float(self.instructions.mean()))


def open_training(folder: str | PathLike[str]) -> TrainingProject:
    """Raises CompileError when the folder is not a compiled project that learns, NotAuthentic when
    the images of a protected one are not those of its manifest."""
    project = open_project(folder)
    graph = read_training_graph(project.folder)
    if not project.protected:
        return TrainingProject(project, graph)
    check_images(project)
    locked, places = read_locked_training(project.folder), read_places(project.folder)
    backward, secured = read_backward(project.folder), None
    if backward is not None and places.secured:
        secured = SecuredState(places.secured, backward, places.key)
    return TrainingProject(project, graph, locked, places.orders, secured)


def train_steps(
    folder: str | PathLike[str],
    samples: Inputs,
    labels: Array,
    rates: Array | float,
    *,
    state: State | None = None,
    progress: Progress | None = None,
) -> TrainResult:
    """One step per sample, in order.

    samples: as for `run`. labels: int[steps], or int8 targets [steps, *shape] in the device's
    layout. rates: the learning rate of each step, or of all. state: to begin with, in place of the
    compiled one. Raises BadInput for samples, labels or rates that do not match, else as `run`.
    """
    training = open_training(folder)
    rows = device_samples(training.project.graph, samples)
    return train_project(training, rows, labels, rates, state=state, progress=progress)


def train_project(
    training: TrainingProject,
    rows: Sequence[Array],
    labels: Array,
    rates: Array | float,
    *,
    state: State | None = None,
    progress: Progress | None = None,
) -> TrainResult:
    """`train_steps` with samples that are in the device's layout and dtype."""
    count = len(rows[0])
    given = check_labels(training.graph, labels, count)
    learning = check_rates(rates, count)
    commands, types = training.steps(rows, given, learning)
    if state is not None:
        commands.insert(0, Sample((training.pack(state),), command=Command.SET_STATE))
        types.insert(0, [])
    commands.append(Sample((), command=Command.GET_STATE))
    types.append([training.state_type])
    project = training.project
    results = run_sequence(project.elf(), project.board, types, commands, progress=progress)
    steps = results[-1 - count : -1]
    _check(steps)
    columns = [np.stack(column) for column in zip(*(r.outputs for r in steps), strict=True)]
    return TrainResult(
        columns[0].reshape(-1),
        tuple(columns[1:]),
        training.unpack(results[-1].outputs[0]),
        count_instructions(project.board, steps),
        max(r.stack_bytes for r in steps),
    )


def check_labels(graph: Graph, labels: Array, count: int) -> Array:
    """Labels or targets as the training graph takes them, one row per step. Raises BadInput."""
    given = graph.inputs[-2]
    array = np.asarray(labels)
    if array.size != count * given.type.elements:
        raise BadInput(
            f"{array.size} labels for {count} samples of {given.name}", expected=str(given.type)
        )
    if given.type.dtype is DType.FLOAT32:
        if array.dtype.kind not in "iuf" or not np.isfinite(array).all():
            raise BadInput(f"targets are {array.dtype}", expected="finite numbers")
        return array.astype(np.float32).reshape(count, *given.type.shape)
    if array.dtype.kind not in "iu":
        raise BadInput(f"labels are {array.dtype}", expected="integers")
    classes = next((n.x.elements for n in graph.nodes if given in n.inputs), 0)
    low, high = (0, classes - 1) if given.type.dtype is DType.INT32 else given.type.dtype.range
    wrong = array[(array < low) | (array > high)]
    if wrong.size:
        raise BadInput(f"label {wrong.flat[0]} is out of range", expected=f"{low} … {high}")
    return array.astype(given.type.dtype.numpy).reshape(count, *given.type.shape)


def check_rates(rates: Array | float, count: int) -> Array:
    """float32[count]. Raises BadInput for rates that are negative or not finite."""
    array = np.asarray(rates, np.float32)
    if array.shape not in ((), (count,)):
        raise BadInput(f"learning rates of shape {array.shape}", expected=f"one, or {count}")
    if not np.all(np.isfinite(array) & (array >= 0)):
        raise BadInput("a learning rate is negative or not finite", expected="0 or more")
    return np.broadcast_to(array, (count,))


def _check(results: Sequence[Result]) -> None:
    for index, result in enumerate(results):
        if result.status == REFUSED:
            raise Refused(
                f"step {index}: the secure world refused to authorise it; the weights are as they "
                "were",
                hint="its quota of queries per boot is used up",
            )
        check_gpu(result)
        if result.status != 0:
            raise InternalError(f"step {index}: the model returned status {result.status}")

"""Training on the host exactly as the device does it, and variations of it for comparison.

`Trainer` keeps the state; what lies before the first layer that learns is computed once per sample
(`encode`) and reused. With the default variation every loss, output and weight is bit-identical to
the device's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from ..errors import BadInput
from ..ir.dtypes import Array, DType
from ..ir.graph import Graph, Value
from .guard import LossGuard, guard_of
from .loop import History, Schedule, run_loop
from .program import Program, needed, split_frozen
from .variations import DEVICE, Variation, replacements, without_qas

Encoded = tuple[Array, ...]


class Trainer:
    """One training graph with its state.

    Attributes:
        graph: of stage TRAINING, after build_backward.
        state: the array of every state value.
        steps: how many steps were taken.
        between: what `encode` computes: the values that do not depend on what learns.
    """

    def __init__(self, graph: Graph, variation: Variation = DEVICE) -> None:
        if not graph.updates:
            raise BadInput("the graph has nothing to train", hint="run build_backward on it")
        self.graph = graph if variation.qas else without_qas(graph, variation.body_rate)
        self.variation = variation
        self.steps = 0
        self._latent: dict[str, Array] = {}
        frozen, rest, between = split_frozen(self.graph)
        self.between = tuple(between)
        changed = replacements(variation, self._latent)
        state, given = self.graph.state, self.graph.inputs[-2:]
        news = [new for _, new in self.graph.updates]
        outputs = self.graph.outputs[:-1]
        reads = [*between, *state]
        forward = needed(rest, outputs)
        self._encode = Program(self.graph, frozen, self.graph.inputs[:-2], between, changed)
        self._forward = Program(self.graph, forward, reads, outputs, changed)
        loss = self.graph.outputs[-1]
        judged = needed(rest, [loss])
        self._loss = Program(self.graph, judged, [*reads, given[0]], [loss], changed)
        self._step = Program(self.graph, rest, [*reads, *given], [loss, *news], changed)
        self.state: dict[Value, Array] = {v: self.graph.initializers[v] for v in state}
        if variation.numbers == "float32":
            self.state = {v: a.astype(np.float64) for v, a in self.state.items()}

    @property
    def given(self) -> Value:
        """The label or target."""
        return self.graph.inputs[-2]

    def encode(self, inputs: Sequence[Array]) -> Encoded:
        """One sample up to the first layer that learns. Raises BadInput for a wrong array."""
        for value, array in zip(self.graph.inputs[:-2], inputs, strict=True):
            _check(value, array)
        return tuple(self._encode.run(inputs))

    def step(self, sample: Encoded, given: Array | int, rate: float) -> float:
        """One update; returns the loss before it. Raises BadInput and changes nothing when wrong.

        given: the label as an int, or the target array.
        """
        if not (math.isfinite(rate) and rate >= 0):
            raise BadInput(f"the learning rate is {rate}", expected="a finite number, 0 or more")
        array = self._as_given(given)
        numbers = [*sample, *self.state.values(), array, np.array([rate], np.float32)]
        loss, *news = self._step.run(numbers)
        self.state = dict(zip(self.state, news, strict=True))
        self.steps += 1
        return float(loss[0])

    def loss(self, sample: Encoded, given: Array | int) -> float:
        """The loss of one sample; nothing learns."""
        numbers = [*sample, *self.state.values(), self._as_given(given)]
        return float(self._loss.run(numbers)[0][0])

    def outputs(self, sample: Encoded) -> tuple[Array, ...]:
        """The model's outputs for one encoded sample."""
        return tuple(self._forward.run([*sample, *self.state.values()]))

    def predict(self, samples: Sequence[Encoded]) -> Array:
        """int64[n]: the class of each sample, the first of equals."""
        return np.array([int(np.argmax(self.outputs(s)[0])) for s in samples], np.int64)

    def accuracy(self, samples: Sequence[Encoded], labels: Array) -> float:
        """Fraction of samples whose class is their label."""
        return float(np.mean(self.predict(samples) == labels))

    def snapshot(self) -> object:
        """What `restore` takes back."""
        return dict(self.state), dict(self._latent), self.steps

    def restore(self, snapshot: object) -> None:
        state, latent, self.steps = snapshot  # type: ignore[misc]
        self.state = dict(state)
        self._latent.clear()
        self._latent.update(latent)

    def forget(self) -> None:
        """Begin a batch, without momentum: as a device that starts from its store."""
        for value in self.graph.transient:
            self.state[value] = np.zeros_like(self.state[value])

    def _as_given(self, given: Array | int) -> Array:
        if not isinstance(given, int | np.integer):
            _check(self.given, np.asarray(given))
            return np.asarray(given)
        classes = self.graph.outputs[0].type.elements
        if self.given.type.dtype is not DType.INT32 or not 0 <= given < classes:
            raise BadInput(f"label {given} is out of range", expected=f"0 … {classes - 1}")
        return np.array([given], np.int32)


def fit(
    trainer: Trainer,
    samples: Sequence[Encoded],
    givens: Sequence[Array | int] | Array,
    *,
    epochs: int,
    rate: float,
    schedule: Schedule = "cosine",
    seed: int = 0,
    guard: LossGuard | None = None,
    after_epoch: Callable[[int, History], None] | None = None,
) -> History:
    """`run_loop` in the simulator: one sample at a time, in an order drawn from the seed."""
    if len(samples) != len(givens) or not samples:
        raise BadInput(f"{len(samples)} samples with {len(givens)} labels or targets")
    labels = [int(g) if np.ndim(g) == 0 else np.asarray(g) for g in givens]
    learner = SimulatedLearner(trainer, samples, labels)
    return run_loop(
        learner,
        len(samples),
        epochs=epochs,
        rate=rate,
        schedule=schedule,
        seed=seed,
        guard=guard or guard_of(learner.classes),
        labels=learner.classes,
        after_epoch=after_epoch,
    )


class SimulatedLearner:
    """A Learner (see `loop`) around a Trainer. labels: ints, or target arrays."""

    def __init__(
        self, trainer: Trainer, samples: Sequence[Encoded], labels: Sequence[Array | int]
    ) -> None:
        self.trainer, self.samples, self.labels = trainer, samples, labels
        self._kept = trainer.snapshot()

    @property
    def classes(self) -> list[int] | None:
        """The label of every sample; None where targets are learnt."""
        return [g for g in self.labels if isinstance(g, int)] or None

    def look(self, which: Sequence[int]) -> Sequence[float]:
        return [self.trainer.loss(self.samples[i], self.labels[i]) for i in which]

    def answers(self, which: Sequence[int]) -> Sequence[int]:
        return self.trainer.predict([self.samples[i] for i in which]).tolist()

    def learn(self, which: Sequence[int], rates: Sequence[float]) -> Sequence[float]:
        steps = zip(which, rates, strict=True)
        return [self.trainer.step(self.samples[i], self.labels[i], rate) for i, rate in steps]

    def keep(self) -> None:
        self._kept = self.trainer.snapshot()

    def take_back(self) -> None:
        self.trainer.restore(self._kept)
        self.trainer.forget()


def _check(value: Value, array: Array) -> None:
    if array.shape != value.type.shape or array.dtype != value.type.dtype.numpy:
        raise BadInput(
            f"{value.name} is {array.dtype}{list(array.shape)}", expected=str(value.type)
        )

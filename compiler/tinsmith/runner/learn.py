"""Lets a compiled project learn from labelled samples, on its device or in the simulator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np

from ..errors import BadInput
from ..ir.dtypes import Array, DType
from ..ir.graph import Graph
from ..train.guard import guard_of
from ..train.labelled import Labelled, class_count, read_labelled, read_test_part
from ..train.loop import History, Schedule, run_loop
from ..train.simulate import SimulatedLearner, Trainer
from ..train.watch import Canary
from .execute import run_sequence
from .project import check_status
from .protocol import Command, Sample
from .store import Commit, DeviceStore
from .training import State, TrainingProject, open_training, train_project

CHUNK = 50  # steps between two looks at the device


@dataclass(frozen=True)
class Settings:
    """How to train.

    rate: to begin with. simulate: on the host, with the same result. canary_margin: how many more
    of the canary samples may be wrong, a fraction; of targets, how much larger their error may be.
    """

    epochs: int
    rate: float = 0.005
    schedule: Schedule = "cosine"
    seed: int = 0
    simulate: bool = False
    canary_margin: float = 0.05

    def __post_init__(self) -> None:
        if not (np.isfinite(self.rate) and self.rate > 0):
            raise BadInput(f"the learning rate is {self.rate:g}", expected="a number above 0")
        if self.epochs < 1:
            raise BadInput(f"{self.epochs} epochs", expected="1 or more")
        if self.schedule not in ("cosine", "constant"):
            raise BadInput(f"unknown schedule {self.schedule!r}", expected="cosine or constant")
        if not (np.isfinite(self.canary_margin) and self.canary_margin >= 0):
            raise BadInput(f"the canary margin is {self.canary_margin:g}", expected="0 or more")


@dataclass(frozen=True)
class Score:
    """accuracy: fraction of samples whose class is right; None where targets are learnt. error: the
    mean squared error of those, else None."""

    samples: int
    accuracy: float | None = None
    error: float | None = None


@dataclass(frozen=True)
class Learnt:
    """What `learn` did.

    Attributes:
        history: losses and rollbacks.
        before, after: on the samples of `evaluated`: "eval", "test" or "training".
        commit: the last, of the final state.
        instructions_per_step: None on the host and in the simulator.
    """

    training: TrainingProject
    state: State
    history: History
    before: Score
    after: Score
    evaluated: str
    commit: Commit
    instructions_per_step: int | None


@dataclass(frozen=True)
class Progress:
    """steps: done, of `total`. loss, accuracy: over the last steps; None without one."""

    steps: int
    total: int
    loss: float
    accuracy: float | None
    rollbacks: int


class DeviceLearner:
    """A Learner (see `train/loop.py`): the project's firmware, with its store.

    Attributes:
        state: what the device holds now.
        correct: whether the class was right, per step so far; empty where targets are learnt.
        instructions: of every step, where the board counts them.
    """

    def __init__(self, store: DeviceStore, data: Labelled, state: State) -> None:
        self.store, self.data, self.state = store, data, state
        self.correct: list[bool] = []
        self.instructions: list[int] = []

    def look(self, which: Sequence[int]) -> Sequence[float]:
        result = train_project(*self._samples(which), 0.0, state=self.state)
        return [float(loss) for loss in result.losses]

    def answers(self, which: Sequence[int]) -> Sequence[int]:
        training, rows, _ = self._samples(which)
        return classes_of(run_with(training, self.state, rows)).tolist()

    def learn(self, which: Sequence[int], rates: Sequence[float]) -> Sequence[float]:
        learning = np.array(rates, np.float32)
        result = train_project(*self._samples(which), learning, state=self.state)
        self.state = result.state
        if result.instructions is not None:
            self.instructions += result.instructions.tolist()
        if class_count(self.store.training.graph) is not None:
            said = classes_of(result.outputs)
            self.correct += (said == self.data.labels[list(which)]).tolist()
        return [float(loss) for loss in result.losses]

    def keep(self) -> None:
        self.store.commit(self.state)

    def take_back(self) -> None:
        self.state = self.store.load()[0]

    def _samples(self, which: Sequence[int]) -> tuple[TrainingProject, list[Array], Array]:
        chosen = list(which)
        rows = [row[chosen] for row in self.data.rows]
        return self.store.training, rows, self.data.given[chosen]


AnyLearner = DeviceLearner | SimulatedLearner


def learn(
    folder: str | PathLike[str],
    data: str | Path,
    settings: Settings,
    *,
    evaluate: str | Path | None = None,
    canary: str | Path | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Learnt:
    """Train a project from what its store holds, and commit what was learnt.

    data, evaluate, canary: .npz files as `train/labelled.py` reads them. A loss that explodes, one
    answer to everything, or a canary set that gets worse takes the weights back to the last commit,
    and the rate is halved. Raises BadInput for data that does not match (nothing has been trained
    then), and what running raises.
    """
    training = open_training(folder)
    model, graph = training.project.graph, training.graph
    samples = read_labelled(data, model, graph)
    held, evaluated = _held(data, evaluate, samples, model, graph)
    guarded = read_labelled(canary, model, graph) if canary is not None else None
    store = DeviceStore(training)
    state = store.load()[0]
    before = score(training, state, held)
    learner = _learner(store, samples, state, settings.simulate)
    total = settings.epochs * len(samples)
    labels = samples.labels.tolist() if class_count(graph) is not None else None

    def tell(history: History) -> None:
        if isinstance(learner, DeviceLearner):
            del learner.correct[len(history.losses) :]
        if progress is not None:
            progress(_progress(history, learner, total))

    history = run_loop(
        learner,
        len(samples),
        epochs=settings.epochs,
        rate=settings.rate,
        schedule=settings.schedule,
        seed=settings.seed,
        guard=guard_of(labels),
        labels=labels,
        canary=_canary(training, learner, guarded, settings) if guarded is not None else None,
        chunk=1 if settings.simulate else CHUNK,
        after_chunk=tell,
    )
    final = learner.state if isinstance(learner, DeviceLearner) else dict(learner.trainer.state)
    counts = learner.instructions if isinstance(learner, DeviceLearner) else []
    return Learnt(
        training,
        final,
        history,
        before,
        score(training, final, held),
        evaluated,
        store.commit(final),
        round(float(np.mean(counts))) if counts else None,
    )


def score(training: TrainingProject, state: State, data: Labelled) -> Score:
    """What the device makes of samples with this state."""
    return _judged(training, run_with(training, state, data.rows)[0], data)


def _judged(training: TrainingProject, outputs: Array, data: Labelled) -> Score:
    if class_count(training.graph) is not None:
        right = classes_of([outputs]) == data.labels
        return Score(len(data), accuracy=float(right.mean()))
    output = training.project.graph.outputs[0].type
    scale = 1.0 if output.dtype is DType.FLOAT32 else output.scale
    away = outputs.reshape(len(data), -1).astype(np.float64) - data.given.reshape(len(data), -1)
    return Score(len(data), error=float(((away * scale) ** 2).mean()))


def classes_of(outputs: Sequence[Array]) -> Array:
    """int64[samples]: of the model's first output, the first of equals."""
    return outputs[0].reshape(len(outputs[0]), -1).argmax(axis=1)


def run_with(training: TrainingProject, state: State, rows: Sequence[Array]) -> list[Array]:
    """The outputs of an inference with this state, [samples, *shape] per model output."""
    project = training.project
    outputs = [v.type for v in project.graph.outputs]
    ask = [Sample((training.pack(state),), command=Command.SET_STATE)]
    ask += [Sample(tuple(row)) for row in zip(*rows, strict=True)]
    types = [[], *([outputs] * (len(ask) - 1))]
    results = run_sequence(project.elf(), project.board, types, ask)[1:]
    check_status(results)
    return [np.stack(column) for column in zip(*(r.outputs for r in results), strict=True)]


def _held(
    data: str | Path, evaluate: str | Path | None, samples: Labelled, model: Graph, graph: Graph
) -> tuple[Labelled, str]:
    if evaluate is not None:
        return read_test_part(evaluate, model, graph) or read_labelled(
            evaluate, model, graph
        ), "eval"
    test = read_test_part(data, model, graph)
    return (test, "test") if test is not None else (samples, "training")


def _learner(store: DeviceStore, samples: Labelled, state: State, simulate: bool) -> AnyLearner:
    if not simulate:
        return DeviceLearner(store, samples, state)
    trainer = Trainer(store.training.graph)
    trainer.state = dict(state)
    encoded = [trainer.encode(list(row)) for row in zip(*samples.rows, strict=True)]
    if class_count(store.training.graph) is None:
        return SimulatedLearner(trainer, encoded, list(samples.given))
    return SimulatedLearner(trainer, encoded, samples.given[:, 0].tolist())


def _canary(
    training: TrainingProject, learner: AnyLearner, data: Labelled, settings: Settings
) -> Canary:
    """Judged by the outputs of now: of classes how many are wrong, else the squared error."""
    encoded = []
    if isinstance(learner, SimulatedLearner):
        encoded = [learner.trainer.encode(data.sample(i)) for i in range(len(data))]

    def judge() -> float:
        if isinstance(learner, DeviceLearner):
            found = score(training, learner.state, data)
        else:
            outputs = np.stack([learner.trainer.outputs(sample)[0] for sample in encoded])
            found = _judged(training, outputs, data)
        return 1 - found.accuracy if found.accuracy is not None else found.error or 0.0

    start, margin = judge(), settings.canary_margin
    squares = class_count(training.graph) is None
    return Canary(judge, start * (1 + margin) if squares else start + margin)


def _progress(history: History, learner: AnyLearner, total: int) -> Progress:
    last = history.losses[-CHUNK:]
    right = learner.correct[-CHUNK:] if isinstance(learner, DeviceLearner) else []
    return Progress(
        len(history.losses),
        total,
        float(np.mean(last)),
        float(np.mean(right)) if right else None,
        len(history.rollbacks),
    )

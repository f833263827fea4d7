"""The training loop: order of the samples, learning rate, guards. The same on every machine."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np

from .guard import LossGuard, Verdict
from .watch import EXPLODED, Canary, Watch

Schedule = Literal["cosine", "constant"]
_ANSWERS = 20  # samples whose answers are watched
_GIVE_UP = 4  # halvings of the rate: a network that still explodes does so for another reason


class Learner(Protocol):
    """A machine that holds a model and its samples; samples go by their number."""

    def look(self, which: Sequence[int]) -> Sequence[float]:
        """The losses of some samples; nothing learns."""
        ...

    def answers(self, which: Sequence[int]) -> Sequence[int]:
        """The classes that the model gives to some samples; only asked where there are classes."""
        ...

    def learn(self, which: Sequence[int], rates: Sequence[float]) -> Sequence[float]:
        """One step per sample, in order; the losses before each."""
        ...

    def keep(self) -> None:
        """The state is worth going back to."""
        ...

    def take_back(self) -> None:
        """To the state of the last `keep`, or of the beginning."""
        ...


@dataclass
class History:
    """losses: of every step. rollbacks: steps after which the weights were taken back, and for each
    of them in reasons why."""

    losses: list[float] = field(default_factory=list[float])
    rollbacks: list[int] = field(default_factory=list[int])
    reasons: list[str] = field(default_factory=list[str])
    gave_up: bool = False


def rate_at(schedule: Schedule, rate: float, step: int, total: int) -> float:
    """The learning rate of a step; cosine falls from `rate` to 0."""
    if schedule == "constant":
        return rate
    return rate * 0.5 * (1 + math.cos(math.pi * step / total))


def run_loop(
    learner: Learner,
    samples: int,
    *,
    epochs: int,
    rate: float,
    schedule: Schedule = "cosine",
    seed: int = 0,
    guard: LossGuard | None = None,
    labels: Sequence[int] | None = None,
    canary: Canary | None = None,
    chunk: int = 1,
    after_chunk: Callable[[History], None] | None = None,
    after_epoch: Callable[[int, History], None] | None = None,
) -> History:
    """Train over all samples `epochs` times, one at a time, in an order drawn from the seed.

    When a guard finds the training broken the last good weights are taken back and the rate is
    halved; after four times it gives up, with the last good weights. labels: of the samples, where
    they are classes: then the answers are watched too. canary: what must not get worse. `chunk`:
    steps that are given to the learner at once; it does not change what is learnt.
    """
    guard = guard or LossGuard()
    history, order = History(), np.random.default_rng(seed)
    mixed = _numbers(order.permutation(samples))
    guard.expect(float(np.mean(learner.look(mixed[: guard.first_look]))))
    seen = mixed[:_ANSWERS]
    classes = [] if labels is None else [labels[i] for i in seen]
    watch = Watch(lambda: learner.answers(seen), classes, canary)
    scale, total, step = 1.0, epochs * samples, 0
    for epoch in range(epochs):
        left = _numbers(order.permutation(samples))
        while left:
            which = left[: min(chunk, guard.left)]
            rates = [scale * rate_at(schedule, rate, step + i, total) for i in range(len(which))]
            done, verdict = _watch(guard, learner.learn(which, rates), history)
            left = left[done:]
            step += done
            fault = EXPLODED if verdict is Verdict.BROKEN else None
            if fault is None and (guard.left == guard.window or step == total):
                fault = watch.fault()
                if fault is not None:
                    guard.refuse()
            if fault is None and verdict is Verdict.GOOD:
                learner.keep()
            elif fault is not None:
                learner.take_back()
                history.rollbacks.append(step)
                history.reasons.append(fault)
                scale /= 2
                if guard.broken >= _GIVE_UP:
                    history.gave_up = True
                    return history
            if after_chunk:
                after_chunk(history)
        if after_epoch:
            after_epoch(epoch, history)
    return history


def _watch(guard: LossGuard, losses: Sequence[float], history: History) -> tuple[int, Verdict]:
    """How many of the steps count (those after a broken one do not), and the last verdict."""
    for done, loss in enumerate(losses, 1):
        history.losses.append(loss)
        verdict = guard.watch(loss)
        if verdict is not Verdict.CONTINUE:
            return done, verdict
    return len(losses), Verdict.CONTINUE


def _numbers(array: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> list[int]:
    return [int(i) for i in array]

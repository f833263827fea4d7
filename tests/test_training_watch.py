"""The watch over training: a collapse into one answer, and a canary set that gets worse."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tinsmith.train.guard import LossGuard
from tinsmith.train.loop import run_loop
from tinsmith.train.simulate import Trainer, fit
from tinsmith.train.watch import COLLAPSED, EXPLODED, WORSE, Canary, Watch

from .training_nets import everything, mobile_net, training_graph


class _Scripted:
    """A Learner whose state is how many steps it took; losses and answers are a function of it."""

    def __init__(self, loss, answers, labels: Sequence[int]) -> None:
        self.loss, self.given, self.labels = loss, answers, labels
        self.state = self.kept = 0
        self.rates: list[float] = []

    def look(self, which: Sequence[int]) -> Sequence[float]:
        return [self.loss(self.state) for _ in which]

    def answers(self, which: Sequence[int]) -> Sequence[int]:
        return [self.given(self.state, self.labels[i]) for i in which]

    def learn(self, which: Sequence[int], rates: Sequence[float]) -> Sequence[float]:
        losses = []
        for rate in rates:
            losses.append(self.loss(self.state))
            self.state += 1
            self.rates.append(rate)
        assert len(which) == len(rates)
        return losses

    def keep(self) -> None:
        self.kept = self.state

    def take_back(self) -> None:
        self.state = self.kept


LABELS = [i % 5 for i in range(40)]


def _run(learner: _Scripted, **options):
    return run_loop(
        learner, 40, epochs=10, rate=1.0, schedule="constant", labels=LABELS, chunk=7, **options
    )


def test_a_collapse_is_noticed_although_the_loss_falls() -> None:
    losses = lambda s: 9.0 - s / 1000 if s < 100 else 2.0  # noqa: E731
    learner = _Scripted(losses, lambda s, y: y if s < 150 else 3, LABELS)
    history = _run(learner)
    assert history.rollbacks == [200, 300, 400]
    assert history.reasons == [COLLAPSED] * 3
    assert learner.state == learner.kept == 100
    assert learner.rates[99] == 1.0
    assert (learner.rates[200], learner.rates[300]) == (0.5, 0.25)


def test_a_fresh_classifier_may_begin_with_one_answer() -> None:
    learner = _Scripted(lambda s: 2.0 - s / 1000, lambda s, y: 0 if s < 250 else y, LABELS)
    assert not _run(learner).rollbacks


def test_one_answer_that_is_right_is_no_collapse() -> None:
    labels = [3] * 30 + [0] * 10
    watch = Watch(lambda: [3] * 40, labels)
    assert watch.fault() is None
    assert Watch(lambda: [3] * 40, [3] * 40).fault() is None


def test_the_end_of_training_is_watched_too() -> None:
    learner = _Scripted(lambda s: 2.0, lambda s, y: y if s < 390 else 1, LABELS)
    history = run_loop(learner, 40, epochs=10, rate=1.0, labels=LABELS, guard=LossGuard(90))
    assert history.rollbacks == [400]
    assert learner.state == 0  # no window had a lower loss, so nothing else was kept


def test_a_canary_that_gets_worse_takes_the_state_back() -> None:
    learner = _Scripted(lambda s: 5.0 - s / 100, lambda s, y: y, LABELS)
    canary = Canary(lambda: 0.1 if learner.state < 250 else 0.2, 0.15)
    history = _run(learner, canary=canary)
    assert history.rollbacks == [300, 400]
    assert history.reasons == [WORSE, WORSE]
    assert learner.state == 200


def test_it_gives_up_and_says_why() -> None:
    learner = _Scripted(lambda s: 1.0 if s < 10 else 50.0, lambda s, y: y, LABELS)
    history = _run(learner, guard=LossGuard(20))
    assert history.gave_up
    assert history.reasons == [EXPLODED] * 4


def test_a_refused_window_does_not_count_as_the_best() -> None:
    guard = LossGuard(window=1)
    guard.expect(3.0)
    guard.watch(1.0)
    guard.refuse()
    assert (guard.best, guard.broken) == (3.0, 1)


def test_a_squared_error_is_measured_by_itself() -> None:
    guard = LossGuard.of_squares()
    guard.window = 1
    guard.expect(1e-4)
    assert guard.watch(2.9e-4).value == "continue"
    assert guard.watch(3.1e-4).value == "broken"


@pytest.mark.parametrize("rate", [3.0])
def test_a_network_that_collapses_comes_back(rate: float) -> None:
    """A first loss far above that of a constant answer: the loss guard alone would keep it."""
    graph = training_graph(mobile_net(), everything())
    trainer = Trainer(graph)
    rng = np.random.default_rng(7)
    centres = rng.integers(-100, 100, (5, 1, 8, 8, 3))
    labels = np.arange(60) % 5
    noisy = centres[labels] + rng.integers(-25, 26, (60, 1, 8, 8, 3))
    encoded = [trainer.encode([a.astype(np.int8)]) for a in noisy]
    fit(trainer, encoded, labels, epochs=4, rate=1e-2, guard=LossGuard(20))
    wrong = (labels + 1) % 5  # the world has changed: what it knows is wrong, and its loss high
    said = set(trainer.predict(encoded).tolist())
    assert len(said) > 1
    guard = LossGuard(20, slack=100.0)  # a guard that the loss never reaches
    history = fit(trainer, encoded, wrong, epochs=1, rate=rate, guard=guard)
    assert COLLAPSED in history.reasons
    assert len(set(trainer.predict(encoded).tolist())) > 1

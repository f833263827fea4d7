"""The loss guard: notices that training has gone wrong, so that the weights can be taken back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum


class Verdict(Enum):
    """What to do after a step.

    GOOD ends a window with the lowest loss so far: the weights are worth keeping. BROKEN: take the
    last good ones back and go on at half the rate.
    """

    CONTINUE = "continue"
    GOOD = "good"
    BROKEN = "broken"


@dataclass
class LossGuard:
    """Watches the mean loss over windows of `window` steps.

    Training is broken when a loss is not finite, or the mean of a window exceeds `factor` times
    the lowest so far plus `slack`: a rate three to four times too high does that soon.

    Attributes:
        first_look: samples whose loss before training says what to expect.
        best: the lowest mean of a window, or what was expected before the first.
        broken: how often it has been broken.
    """

    window: int = 100
    factor: float = 1.5
    slack: float = 0.5
    first_look: int = 20
    best: float = math.nan
    broken: int = 0
    _before: float = math.nan
    _losses: list[float] = field(default_factory=list[float])

    @classmethod
    def of_squares(cls) -> LossGuard:
        """For a squared error: it has no size of its own, and a few samples may make most of it."""
        return cls(factor=3.0, slack=0.0, first_look=100)

    @property
    def left(self) -> int:
        """Steps until the window is full."""
        return self.window - len(self._losses)

    def expect(self, loss: float) -> None:
        """The mean loss before training: what the first windows are measured by."""
        self.best = loss

    def watch(self, loss: float) -> Verdict:
        """The loss of the step just done."""
        if not math.isfinite(loss):
            return self._break()
        self._losses.append(loss)
        if len(self._losses) < self.window:
            return Verdict.CONTINUE
        mean = sum(self._losses) / len(self._losses)
        self._losses.clear()
        if mean > self.factor * self.best + self.slack:
            return self._break()
        self._before = self.best
        if not mean >= self.best:
            self.best = mean
            return Verdict.GOOD
        return Verdict.CONTINUE

    def refuse(self) -> None:
        """The window that has just ended is broken after all, for another reason than its loss."""
        self.best = self._before
        self.broken += 1

    def _break(self) -> Verdict:
        self._losses.clear()
        self.broken += 1
        return Verdict.BROKEN


def guard_of(labels: Sequence[int] | None) -> LossGuard:
    """For the cross entropy of labels, or without any for a squared error."""
    return LossGuard() if labels is not None else LossGuard.of_squares()

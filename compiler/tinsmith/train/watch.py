"""What the training loop looks at after every window, besides the loss.

A loss that was very high at first falls even when the network collapses into one answer for
everything, so the answers themselves are looked at. A canary set is samples whose outputs must not
get worse, whatever is learnt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

COLLAPSED = "it gives the same answer to everything"
WORSE = "the canary samples got worse"
EXPLODED = "the loss exploded"
_MOSTLY = 0.5  # of the answers: a constant one that is right so often is no collapse


@dataclass(frozen=True)
class Canary:
    """judge: how bad the state of now is on the canary samples. limit: how bad it may be."""

    judge: Callable[[], float]
    limit: float

    @property
    def worse(self) -> bool:
        return self.judge() > self.limit


@dataclass
class Watch:
    """answers: the classes that the state of now gives to a few samples; labels: the right ones,
    or none where there are no classes."""

    answers: Callable[[], Sequence[int]]
    labels: Sequence[int]
    canary: Canary | None = None
    _alive: bool = field(init=False)

    def __post_init__(self) -> None:
        self._alive = not self._collapsed()

    def fault(self) -> str | None:
        """Why the state of now must be taken back; None when it is sound."""
        collapsed = self._collapsed()
        if collapsed and self._alive:
            return COLLAPSED
        if self.canary is not None and self.canary.worse:
            return WORSE
        self._alive = self._alive or not collapsed
        return None

    def _collapsed(self) -> bool:
        """One answer to all, and mostly a wrong one. A fresh classifier begins like that."""
        if len(set(self.labels)) < 2:
            return False
        answers = self.answers()
        right = sum(a == b for a, b in zip(answers, self.labels, strict=True))
        return len(set(answers)) == 1 and right <= _MOSTLY * len(answers)

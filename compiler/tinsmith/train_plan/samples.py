"""Which of the samples train and which judge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import BadInput
from ..train.labelled import Labelled


@dataclass(frozen=True)
class Split:
    train: Labelled
    held: Labelled


def split(data: Labelled, held: Labelled | None, train: int, judge: int, seed: int) -> Split:
    """At most `train` samples to train on and `judge` to judge by, drawn with `seed`.

    held: what to judge by; None: a third of `data`, which then does not train. Raises BadInput when
    too few remain.
    """
    order = np.random.default_rng(seed).permutation(len(data))
    if held is None:
        count = min(judge, len(data) // 3)
        chosen = Split(data.pick(order[count : count + train]), data.pick(order[:count]))
    else:
        others = np.random.default_rng(seed).permutation(len(held))[:judge]
        chosen = Split(data.pick(order[:train]), held.pick(others))
    if len(chosen.train) < 2 or len(chosen.held) < 2:
        raise BadInput(
            f"{len(chosen.train)} samples to train on and {len(chosen.held)} to judge by",
            expected="two of each at least",
        )
    return chosen

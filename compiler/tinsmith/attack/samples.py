"""The attacker's labelled samples, and those that judge."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import BadInput
from ..ir.graph import Graph
from ..quant.samples import match_samples
from ..train.labelled import read_classes
from ..train.scheme import logits
from .lab import Samples

_HELD = 0.2  # of the samples judge where the file has none for it
_LEAST = 10


def read_attack_samples(path: Path, model: Graph) -> tuple[Samples, Samples]:
    """(what the attacker has, what judges) of a file with `x` and `y`, or `x_train` and `y_train`.

    `x_test` and `y_test` judge; without them a fifth of the samples does. Raises BadInput.
    """
    classes = logits(model).type.elements
    labelled = read_classes(path, model, classes, "the attacks judge by classes")
    train = Samples(labelled.rows, labelled.labels)
    with np.load(path, allow_pickle=False) as archive:
        names = [n for n in ("x_test", "y_test") if n in archive.files]
        held = {n: archive[n] for n in names}
    if len(model.inputs) == 1 and len(held) == 2:
        labels = held["y_test"].reshape(-1).astype(np.int32)
        rows = match_samples({"x": held["x_test"]}, model)
        if len(labels) != len(rows[0]) or labels.min() < 0 or labels.max() >= classes:
            raise BadInput(f"{path}: y_test does not belong to x_test, or is no class")
        test = Samples(rows, labels)
    else:
        order = np.random.default_rng(0).permutation(len(train))
        judges, learns = np.split(order, [round(_HELD * len(order))])
        train, test = _picked(train, learns), _picked(train, judges)
    if min(len(train), len(test)) < _LEAST:
        raise BadInput(f"{path} has too few samples", expected=f"{5 * _LEAST} or more")
    return train, test


def _picked(samples: Samples, chosen: np.ndarray) -> Samples:
    return Samples([row[chosen] for row in samples.rows], samples.labels[chosen])

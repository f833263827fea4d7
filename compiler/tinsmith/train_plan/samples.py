"""Samples with labels, and which of them train and which judge."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import BadInput
from ..ir.dtypes import Array
from ..ir.graph import Graph
from ..quant.samples import read_samples

LABELS = ("label", "labels", "y", "y_train")


@dataclass(frozen=True)
class Labelled:
    """inputs: per graph input an array [samples, *shape] as the device takes it; labels: int64."""

    inputs: tuple[Array, ...]
    labels: Array

    def __len__(self) -> int:
        return len(self.labels)

    def sample(self, index: int) -> list[Array]:
        return [array[index] for array in self.inputs]

    def pick(self, indices: Array) -> Labelled:
        return Labelled(tuple(a[indices] for a in self.inputs), self.labels[indices])


@dataclass(frozen=True)
class Split:
    train: Labelled
    held: Labelled


def read_labelled(path: Path, graph: Graph, classes: int) -> Labelled:
    """Samples of `graph`'s inputs and the array of labels beside them, called as in LABELS.

    Raises BadInput when there are none, or one is not in 0 … classes − 1.
    """
    inputs = read_samples(path, graph)
    labels = _labels(path)
    if labels.shape != (len(inputs[0]),) or labels.dtype.kind not in "iu":
        raise BadInput(
            f"{path}: the labels are {labels.dtype}{list(labels.shape)}",
            expected=f"{len(inputs[0])} whole numbers, one per sample",
        )
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        worst = int(labels.max() if labels.max() >= classes else labels.min())
        raise BadInput(
            f"{path}: label {worst} is out of range",
            expected=f"0 … {classes - 1}, the model's classes",
            hint="give the model a fresh classifier with --classes N",
        )
    return Labelled(tuple(inputs), labels.astype(np.int64))


def _labels(path: Path) -> Array:
    try:
        with np.load(path, allow_pickle=False) as archive:
            for name in LABELS:
                if name in archive.files:
                    return np.asarray(archive[name])
            found = ", ".join(archive.files)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise BadInput(f"{path} cannot be read: {error}") from error
    raise BadInput(
        f"{path} has no labels; it has {found}", expected=f"an array called {' or '.join(LABELS)}"
    )


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

"""Samples to learn from: what goes in, and the label or the target that belongs to each."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import BadInput
from ..ir.dtypes import Array, DType
from ..ir.graph import Graph, Value
from ..quant.arithmetic import quantize_array
from ..quant.samples import load_samples, match_samples

FRESH = "`classes = N` in update.toml gives the model a fresh classifier"
_LABELS = ("y", "y_train", "label", "labels")
_TEST_INPUT, _TEST_LABELS = "x_test", "y_test"


@dataclass(frozen=True)
class Labelled:
    """rows: one array [samples, *shape] per model input, in the device's layout and dtype. given:
    int32[samples, 1] labels, or targets [samples, *shape] as the model's output has them."""

    rows: Sequence[Array]
    given: Array

    def __len__(self) -> int:
        return len(self.given)

    @property
    def labels(self) -> Array:
        """int32[samples]; only where classes are told apart."""
        return self.given[:, 0]

    def sample(self, index: int) -> list[Array]:
        return [row[index] for row in self.rows]

    def pick(self, indices: Array) -> Labelled:
        return Labelled([row[indices] for row in self.rows], self.given[indices])


def read_labelled(path: str | Path, model: Graph, training: Graph) -> Labelled:
    """A file with the model's inputs (`x` for a single one) and labels, `y`.

    A model that is trained to give targets takes them in place of labels; without any, its input.
    Raises BadInput when the file does not match the model: shapes, NaN, a label out of range.
    """
    return _labelled(path, load_samples(path, model), _given(_arrays(path)), model, training)


def read_classes(path: str | Path, model: Graph, classes: int, hint: str = FRESH) -> Labelled:
    """`read_labelled` of a model that tells `classes` apart, without its training graph.

    hint: what to do about a label that is none of them.
    """
    rows, given = load_samples(path, model), _given(_arrays(path))
    return Labelled(rows, _labels(path, given, len(rows[0]), classes, hint))


def label_shape(path: str | Path) -> tuple[int, ...] | None:
    """Of the labels or targets in a file; None without. Raises BadInput when it cannot be read."""
    given = _given(_arrays(path))
    return None if given is None else given.shape


def read_test_part(path: str | Path, model: Graph, training: Graph) -> Labelled | None:
    """`x_test` and `y_test` of a file with samples; None where it has none."""
    arrays = _arrays(path)
    if len(model.inputs) != 1 or _TEST_INPUT not in arrays:
        return None
    rows = match_samples({"x": arrays[_TEST_INPUT]}, model)
    return _labelled(path, rows, arrays.get(_TEST_LABELS), model, training)


def class_count(training: Graph) -> int | None:
    """How many classes a training graph tells apart; None when it learns targets."""
    given = training.inputs[-2]
    return None if given.type.dtype is not DType.INT32 else _loss_input(training, given)


def _loss_input(training: Graph, given: Value) -> int:
    return next(n.x.elements for n in training.nodes if given in n.inputs)


def _arrays(path: str | Path) -> dict[str, Array]:
    """Raises BadInput for a file that cannot be read; `load_samples` says the same of others."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise BadInput(f"{path} cannot be read: {error}", expected="a .npz file") from error


def _labelled(
    path: str | Path, rows: list[Array], given: Array | None, model: Graph, training: Graph
) -> Labelled:
    classes = class_count(training)
    if classes is None:
        return Labelled(rows, _targets(path, rows, given, model))
    return Labelled(rows, _labels(path, given, len(rows[0]), classes, FRESH))


def _given(arrays: Mapping[str, Array]) -> Array | None:
    return next((arrays[name] for name in _LABELS if name in arrays), None)


def _labels(path: str | Path, given: Array | None, count: int, classes: int, hint: str) -> Array:
    if given is None:
        raise BadInput(
            f"{path} has no labels", expected=f"an array called {', '.join(_LABELS[:-1])} or labels"
        )
    if given.shape not in ((count,), (count, 1)) or given.dtype.kind not in "iuf":
        raise BadInput(
            f"{path}: the labels are {given.dtype}{list(given.shape)} for {count} samples",
            expected=f"{count} whole numbers",
        )
    flat = given.reshape(-1)
    wrong = ~np.isfinite(flat) | (flat != np.rint(flat)) | (flat < 0) | (flat >= classes)
    if wrong.any():
        first = int(np.argmax(wrong))
        raise BadInput(
            f"{path}: label {flat[first]:g} of sample {first} is not a class",
            expected=f"0 … {classes - 1}",
            hint=hint,
        )
    return flat.astype(np.int32)[:, None]


def _targets(path: str | Path, rows: Sequence[Array], given: Array | None, model: Graph) -> Array:
    output = model.outputs[0].type
    if given is None:
        x = model.inputs[0].type
        if x.elements != output.elements:
            raise BadInput(
                f"{path} has no targets, and the input has {x.elements} numbers",
                expected=f"y with {output.elements} numbers per sample, or an auto-encoder",
            )
        real = rows[0].astype(np.float64)
        if x.dtype is DType.INT8:
            real = (real - x.zero_point) * x.scale
    else:
        if given.size != len(rows[0]) * output.elements:
            raise BadInput(
                f"{path}: the targets have shape {list(given.shape)}",
                expected=f"[{len(rows[0])}, {', '.join(map(str, output.shape[1:]))}]",
            )
        if given.dtype == np.int8 and output.dtype is DType.INT8:
            return given.reshape(-1, *output.shape)
        if given.dtype.kind not in "iuf" or not np.isfinite(given).all():
            raise BadInput(f"{path}: a target is not finite", expected="finite numbers")
        layout = model.output_layout(0)
        real = given.astype(np.float64)
        if layout is not None:
            onnx = tuple(output.shape[int(a)] for a in np.argsort(layout))
            real = real.reshape(-1, *onnx).transpose(0, *(a + 1 for a in layout))
    if output.dtype is DType.FLOAT32:
        return real.reshape(-1, *output.shape).astype(np.float32)
    return np.stack([quantize_array(r.reshape(output.shape), output) for r in real])

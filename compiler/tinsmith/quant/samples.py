"""Reading samples, for calibration or for running, from an .npz file."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..errors import BadInput
from ..ir.dtypes import Array, DType, Shape
from ..ir.graph import Graph, Value
from .arithmetic import quantize_array

Samples = str | Path | Mapping[str, Array]

_ALIASES = ("x", "x_train")
_NHWC = (0, 2, 3, 1)
_UNREADABLE = (OSError, EOFError, ValueError, KeyError, MemoryError, zipfile.BadZipFile, zlib.error)
_NUMBERS = "biuf"  # numpy kinds: bool, signed, unsigned, float


def load_samples(path: str | Path, graph: Graph, limit: int | None = None) -> list[Array]:
    """One array [samples, *shape] per graph input, in the input's own dtype and layout.

    The file holds one array per graph input, under its name, or for a model with one input a single
    `x` or `x_train`. The first axis is the samples; the batch axis of 1 may be left out. Values are
    in ONNX layout or in the layout of the device. Any number type is read as real values; for an
    int8 input int8 data is taken as it is, and real values are quantised. Integers far outside what
    the input can hold are no real values of it, and refused.

    limit: take this many samples, spread evenly over the file.
    Raises BadInput when the file cannot be read or does not match the model.
    """
    arrays = _read(Path(path), graph)
    counts = {name: len(np.atleast_1d(a)) for name, a in arrays.items()}
    if len(set(counts.values())) != 1:
        raise BadInput(
            f"the arrays of {path} do not have the same number of samples: {counts}",
            expected="one first axis for all inputs",
        )
    total = next(iter(counts.values()))
    if total == 0:
        raise BadInput(f"{path} holds no samples", expected="at least one sample")
    chosen = np.arange(total)
    if limit is not None and limit < total:
        chosen = np.linspace(0, total - 1, limit).round().astype(np.int64)
    picked = {n: np.atleast_1d(a)[chosen] for n, a in arrays.items()}
    return [_convert(graph, i, picked[v.name], path) for i, v in enumerate(graph.inputs)]


def match_samples(arrays: Mapping[str, Array], graph: Graph) -> list[Array]:
    """`load_samples` of arrays that are in memory already, by the same rules."""
    found = _select(arrays, graph, "the samples")
    return [_convert(graph, i, found[v.name], "the samples") for i, v in enumerate(graph.inputs)]


def read_samples(samples: Samples, graph: Graph, limit: int | None = None) -> list[Array]:
    """`load_samples` of a file or `match_samples` of arrays."""
    if isinstance(samples, Mapping):
        return match_samples({name: a[:limit] for name, a in samples.items()}, graph)
    return load_samples(samples, graph, limit)


def _read(path: Path, graph: Graph) -> Mapping[str, Array]:
    expected = "a .npz file, as numpy.savez writes it"
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise BadInput(f"{path} holds a single array without a name", expected=expected)
        with archive:
            wanted = _names(archive.files, graph, path)
            return {name: archive[key] for name, key in wanted.items()}
    except FileNotFoundError as error:
        raise BadInput(f"{path} does not exist", expected=expected) from error
    except _UNREADABLE as error:
        raise BadInput(f"{path} cannot be read: {error}", expected=expected) from error


def _select(arrays: Mapping[str, Array], graph: Graph, source: str) -> Mapping[str, Array]:
    return {name: arrays[key] for name, key in _names(list(arrays), graph, source).items()}


def _names(keys: Sequence[str], graph: Graph, source: str | Path) -> Mapping[str, str]:
    """Graph input name → name in the file."""
    inputs = [v.name for v in graph.inputs]
    if all(name in keys for name in inputs):
        return {name: name for name in inputs}
    if len(inputs) == 1:
        for alias in _ALIASES:
            if alias in keys:
                return {inputs[0]: alias}
    missing = [name for name in inputs if name not in keys]
    alias = f", or a single {' or '.join(map(repr, _ALIASES))}" if len(inputs) == 1 else ""
    raise BadInput(
        f"{source} has no array for model input {', '.join(map(repr, missing))}; "
        f"it has {', '.join(map(repr, keys)) or 'none'}",
        expected=f"arrays named {', '.join(map(repr, inputs))}{alias}",
    )


def _convert(graph: Graph, index: int, array: Array, source: str | Path) -> Array:
    value = graph.inputs[index]
    if array.dtype.kind not in _NUMBERS:
        raise BadInput(
            f"{source}: the samples of {value.name!r} are {array.dtype}",
            expected="numbers: float32, uint8, int8…",
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        row = int(np.argmin(np.isfinite(array).reshape(len(array), -1).all(axis=1)))
        raise BadInput(
            f"{source}: sample {row} of {value.name!r} contains NaN or infinity",
            expected="finite numbers",
        )
    array = _arrange(graph, index, array, source)
    if value.type.dtype is not DType.INT8:
        return np.ascontiguousarray(array, value.type.dtype.numpy)
    if array.dtype == np.int8:
        return np.ascontiguousarray(array)
    if array.dtype.kind != "f":
        _check_real(value, array, source)
    return np.stack([quantize_array(row, value.type) for row in array])


def _check_real(value: Value, array: Array, source: str | Path) -> None:
    """Refuses integers that cannot be real values of the input: stored pixels, or its own codes."""
    low = value.type.scale * (-128 - value.type.zero_point)
    high = value.type.scale * (127 - value.type.zero_point)
    least, most = int(array.min()), int(array.max())
    if least < 2 * low - high or most > 2 * high - low:
        raise BadInput(
            f"{source}: the samples of {value.name!r} are {array.dtype} from {least} to {most}, "
            f"and the input holds {low:.4g} to {high:.4g}",
            expected="int8 as the device takes it, or real values as float32",
        )


def _arrange(graph: Graph, index: int, array: Array, source: str | Path) -> Array:
    """[samples, *shape] in the graph's layout, from ONNX or device layout."""
    value = graph.inputs[index]
    shape = value.type.shape
    layout = graph.input_layout(index)
    if layout is not None:  # the graph is in device layout
        original = _inverse(shape, layout)
        if (full := _as_shape(array, original)) is not None:
            return full.transpose(0, *(a + 1 for a in layout))
    if (full := _as_shape(array, shape)) is not None:
        return full
    if layout is None and len(shape) == len(_NHWC):
        device = tuple(shape[a] for a in _NHWC)
        if (full := _as_shape(array, device)) is not None:
            back = np.argsort(_NHWC)
            return full.transpose(0, *(int(a) + 1 for a in back))
    wanted = shape[1:] if shape[:1] == (1,) else shape
    raise BadInput(
        f"{source}: the samples of {value.name!r} have shape {list(array.shape)}",
        expected=f"[samples, {', '.join(map(str, wanted))}]",
    )


def _inverse(shape: Shape, layout: tuple[int, ...]) -> Shape:
    """The ONNX shape whose axes, permuted by `layout`, give `shape`."""
    original = [0] * len(shape)
    for i, axis in enumerate(layout):
        original[axis] = shape[i]
    return tuple(original)


def _as_shape(array: Array, shape: Shape) -> Array | None:
    """[samples, *shape] of an array with or without the batch axis of 1; None if it is neither."""
    if array.shape[1:] == shape:
        return array
    if shape[:1] == (1,) and array.shape[1:] == shape[1:]:
        return array[:, None]
    return None

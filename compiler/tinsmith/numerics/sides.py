"""The two sides of a comparison: something that gives every layer's output for a sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..codegen.report import read_report
from ..errors import CompileError
from ..frontend.onnx_import import import_model
from ..ir.dtypes import Array, DType
from ..ir.graph import Graph, Node, Value
from ..ir.interpret import trace
from ..quant.arithmetic import dequantize_array
from ..quant.samples import load_samples
from ..runner.compare import seeded_samples
from ..runner.layer_trace import device_trace
from ..runner.learnt import boot
from ..toolchain.compile_c import build

ORACLE = "oracle"
Layers = Iterator[tuple[Node, tuple[Array, ...]]]


@dataclass(frozen=True)
class Side:
    """label: as the user named it. inputs: of a sample, in reals, float64. layers: every node of
    the graph with its outputs, per sample."""

    label: str
    graph: Graph
    samples: int
    inputs: Callable[[int], list[Array]]
    layers: Callable[[int], Layers]


def open_side(text: str, inputs: Path | None, limit: int, bind: Mapping[str, int]) -> Side:
    """A side by its name: an ONNX model, a compiled project (its device), or `DIR:oracle`.

    inputs: samples as `run` takes them; None: seeded ones of the project's inputs.
    limit: this many samples at most, spread evenly.

    Raises CompileError for what is neither, for a protected project, or a model without samples.
    """
    path, _, how = text.rpartition(":")
    if not path or (how != ORACLE and Path(text).exists()):
        path, how = text, ""
    if how not in ("", ORACLE):
        raise CompileError(f"{text!r} names no side", expected=f"MODEL.onnx, DIR or DIR:{ORACLE}")
    if Path(path).is_dir():
        return _project_side(text, Path(path), inputs, limit, on_device=not how)
    if how:
        raise CompileError(f"{path} is not a compiled project", expected=f"a folder before :{how}")
    graph = import_model(path, bind=bind)
    if inputs is None:
        raise CompileError(
            "an ONNX model is compared on samples of your own", expected="--input F.npz"
        )
    arrays = load_samples(inputs, graph, limit)
    return _oracle(text, graph, arrays)


def real_values(node: Node, index: int, array: Array) -> Array:
    """An output of a node as float64; int8 dequantised."""
    return _real(node.outputs[index], array)


def _real(value: Value, array: Array) -> Array:
    type_ = value.type
    if type_.quant is not None and type_.dtype is not DType.FLOAT32:
        return dequantize_array(array, type_).astype(np.float64)
    return array.astype(np.float64)


def _oracle(label: str, graph: Graph, arrays: list[Array]) -> Side:
    return _side(label, graph, arrays, lambda i: trace(graph, [a[i] for a in arrays]))


def _side(label: str, graph: Graph, arrays: list[Array], layers: Callable[[int], Layers]) -> Side:
    def inputs(sample: int) -> list[Array]:
        return [_real(v, a[sample]) for v, a in zip(graph.inputs, arrays, strict=True)]

    return Side(label, graph, len(arrays[0]), inputs, layers)


def _project_side(
    label: str, folder: Path, inputs: Path | None, limit: int, *, on_device: bool
) -> Side:
    if read_report(folder).trust is not None:
        raise CompileError(
            f"{folder} is protected: what its layers compute does not leave the device",
            hint="compare the project that it was made from",
        )
    project = boot(folder)
    graph = project.graph
    arrays = seeded_samples(graph) if inputs is None else load_samples(inputs, graph, limit)
    if not on_device:
        return _oracle(label, graph, arrays)
    build(project.folder, project.board, trace=True)
    return _side(label, graph, arrays, lambda i: device_trace(project, [a[i] for a in arrays]))

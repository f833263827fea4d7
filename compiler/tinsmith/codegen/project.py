"""Writes the compiled project: sources, runtime headers, CMakeLists.txt, graph.tin, sample.npz."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from .. import __version__, paths
from ..errors import CompileError
from ..ir.dtypes import Array
from ..ir.graph import Graph
from ..ir.parser import parse
from ..ir.printer import print_graph
from ..ops import registry
from ..train.scheme import Scheme
from .c_text import c_model_name
from .emit import model_view, random_sample, render_model
from .environment import render
from .program import Program

GRAPH_FILE = "graph.tin"
TRAINING_FILE = "train.tin"  # the planned training graph of a model that learns
NETWORK_FILE = "network.tin"  # the quantised network that a model that learns came from
SCHEME_FILE = "scheme.json"  # how it learns
_GRAPHS = (GRAPH_FILE, TRAINING_FILE, NETWORK_FILE, SCHEME_FILE)
SAMPLE_FILE = "sample.npz"  # the embedded sample as `run` reads it: in ONNX layout
MANIFEST_FILE = "manifest.json"  # of a protected project, with the folders of its two images:
NONSECURE_FOLDER, SECURE_FOLDER = "nonsecure", "secure"


def write_project(folder: Path, program: Program) -> int:
    """Write into `folder`, which is made when it is missing; other files in it stay.

    What an earlier compile left there goes first: it would be linked, or taken for this one's.

    Returns the bytes of the constants. Raises CompileError when the folder cannot be written.
    """
    view = model_view(program)
    files = render_model(view)
    names = {
        "name": program.c_name,
        "version": __version__,
        "needs_math": _uses_math(files),
        "trains": program.train is not None,
        "compiled": program.library is not None,
        "cuda": program.cuda is not None,
    }
    files |= {
        "CMakeLists.txt": render("codegen/CMakeLists.txt.j2", names),
        GRAPH_FILE: print_graph(program.graph),
    }
    if program.train is not None:
        files[TRAINING_FILE] = print_graph(program.train.graph)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_earlier(folder)
        for name, text in sorted(files.items()):
            (folder / name).write_text(text, encoding="utf-8", newline="\n")
        if program.library is not None:
            (folder / kernels_object(program.c_name)).write_bytes(program.library.code())
            shutil.copytree(paths.RUNTIME_C / "tvm", folder / "runtime" / "tvm", dirs_exist_ok=True)
        if program.cuda is not None:
            cuda = folder / "runtime" / "cuda"
            shutil.copytree(paths.RUNTIME_C / "cuda", cuda, dirs_exist_ok=True)
        for part in ("include", "src") if program.train else ("include",):
            shutil.copytree(paths.RUNTIME_C / part, folder / "runtime" / part, dirs_exist_ok=True)
        _write_sample(folder / SAMPLE_FILE, program.graph, program.sample)
    except OSError as error:
        raise CompileError(f"cannot write the project: {error}") from error
    return view.weights_bytes


def kernels_object(c_name: str) -> str:
    """The file with the functions that TVM compiled."""
    return f"{c_name}_kernels.o"


def write_oracle(
    folder: Path, graph: Graph, sample: Sequence[Array], train: Graph | None = None
) -> None:
    """Write only what a protected project has of the unprotected model: graphs and sample.

    What an earlier compile left in `folder` goes first. Raises CompileError as `write_project`.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_earlier(folder)
        shutil.rmtree(folder / "harness", ignore_errors=True)
        (folder / "CMakeLists.txt").unlink(missing_ok=True)
        text = print_graph(graph)
        (folder / GRAPH_FILE).write_text(text, encoding="utf-8", newline="\n")
        if train is not None:
            text = print_graph(train)
            (folder / TRAINING_FILE).write_text(text, encoding="utf-8", newline="\n")
        _write_sample(folder / SAMPLE_FILE, graph, sample)
    except OSError as error:
        raise CompileError(f"cannot write the project: {error}") from error


def write_network(folder: Path, network: Graph, scheme: Scheme) -> None:
    """Keep what trained weights are put back into, and what of it learns. Raises CompileError as
    `write_project`."""
    try:
        (folder / NETWORK_FILE).write_text(print_graph(network), encoding="utf-8", newline="\n")
        (folder / SCHEME_FILE).write_bytes(msgspec.json.encode(scheme) + b"\n")
    except OSError as error:
        raise CompileError(f"cannot write the project: {error}") from error


def read_graph(folder: Path) -> Graph:
    """The planned graph of a compiled project: the oracle's input."""
    path = folder / GRAPH_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise CompileError(
            f"{folder} is not a compiled project: {error}",
            expected=f"a folder with {GRAPH_FILE}",
            hint="make one with `tinsmith compile MODEL.onnx --board BOARD -o DIR`",
        ) from error
    return parse(text, registry())


def read_training_graph(folder: Path) -> Graph:
    """The planned training graph of a compiled project: what one training step computes."""
    return _read_learning(folder, TRAINING_FILE)


def read_network(folder: Path) -> Graph:
    """The quantised network, in ONNX layout, that a project that learns was compiled from."""
    return _read_learning(folder, NETWORK_FILE)


def _read_learning(folder: Path, name: str) -> Graph:
    try:
        text = (folder / name).read_text(encoding="utf-8")
    except OSError as error:
        raise CompileError(
            f"{folder} is not a project that learns: {error}",
            expected=f"a folder with {name}",
            hint="make one with `tinsmith compile MODEL.onnx --board BOARD --train update.toml`",
        ) from error
    return parse(text, registry())


def _remove_earlier(folder: Path) -> None:
    graph = folder / GRAPH_FILE
    if not graph.is_file():
        return
    with graph.open(encoding="utf-8") as file:
        header = re.match(r'graph "?(.*?)"? stage=', file.readline())
    name = c_model_name(header.group(1)) if header else ""
    kinds = ".c .h _weights.c _weights.h _kernels.o _kernels.cu _cubin.c .cubin"
    model = [f"{name}{suffix}" for suffix in kinds.split()]
    pictures = [f"{s}.{e}" for s in ("arena", "train_arena") for e in ("svg", "png", "txt")]
    for file_name in (*model, *pictures, "report.json", "report.txt", MANIFEST_FILE, *_GRAPHS):
        (folder / file_name).unlink(missing_ok=True)
    for part in ("build", "runtime", NONSECURE_FOLDER, SECURE_FOLDER):
        shutil.rmtree(folder / part, ignore_errors=True)


def _write_sample(path: Path, graph: Graph, sample: Sequence[Array] | None) -> None:
    given = sample if sample is not None else random_sample(graph)
    arrays = [np.reshape(a, v.type.shape) for v, a in zip(graph.inputs, given, strict=True)]
    for i, layout in enumerate(graph.input_layouts):
        if layout is not None:
            arrays[i] = arrays[i].transpose(tuple(int(a) for a in np.argsort(layout)))
    named: dict[str, Any] = {v.name: a[None] for v, a in zip(graph.inputs, arrays, strict=True)}
    np.savez(path, **named)


def _uses_math(files: dict[str, str]) -> bool:
    return any(re.search(r"#include <math\.h>", text) for text in files.values())

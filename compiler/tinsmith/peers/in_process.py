"""A compiled project as a shared library of this process: ours, beside the peers."""

from __future__ import annotations

import ctypes
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .. import paths
from ..errors import CompileError
from ..ir.dtypes import Array
from ..ir.graph import Graph
from ..runner.project import Project
from ..runner.run import to_onnx_layout
from ..toolchain.compile_c import compile_sources, compiled_kernels, link_elf, source_files
from .contender import Feed, NotComparable

LABEL = "tinsmith"
_SOURCE = "in_process.c"
_BINDING = Path("harness/model_binding.c")


def build_library(project: Project, *, trace: bool = False) -> Path:
    """Compile the project again, as `build/peers/model.so`; with `trace`, nodes can be timed.

    Raises CompileError for a board whose code does not run in this process, and as `build`.
    """
    folder, board = project.folder, project.board
    if not board.is_native:
        raise CompileError(
            f"code for {board.name} does not run in this process",
            expected="a board of this machine: host, or linux-x86_64 on x86-64",
        )
    output = Path("build") / ("peers_trace" if trace else "peers")
    (folder / output).mkdir(parents=True, exist_ok=True)
    shutil.copy(paths.RUNTIME_C / "bench" / _SOURCE, folder / output / _SOURCE)
    own = [p for p in source_files(folder) if p.parts[0] != "harness"]
    sources = [*own, _BINDING, output / _SOURCE]
    flags = ["-fPIC", *(["-DTS_TRACE"] if trace else [])]
    includes = [".", "runtime/include", "runtime", "harness"]
    objects = compile_sources(folder, board, sources, output / "obj", includes, flags)
    objects += compiled_kernels(folder)
    library = folder / output / "model.so"
    link_elf(folder, board, objects, library, flags=["-shared", "-fPIC"])
    return library


class InProcess:
    """See Contender. One per library file: the model's memory is static."""

    def __init__(self, project: Project, library: Path, threads: int) -> None:
        graph = project.graph
        self.label = LABEL
        self.settings = f"{project.board.name}, {project.board.target.name}, inputs copied in"
        self._graph: Graph = graph
        self._library = ctypes.CDLL(str(library))
        self._library.ts_bench_output.restype = ctypes.c_void_p
        self._set_threads(threads, project.board.name)
        if self._library.ts_bench_init() != 0:
            raise CompileError(f"{library} does not start")
        self._held: list[Array] = []
        self.run = self._library.ts_bench_run

    def _set_threads(self, threads: int, board: str) -> None:
        setter = getattr(self._library, "ts_set_threads", None)
        if setter is not None:
            setter(ctypes.c_int32(threads))
        elif threads != 1:
            raise NotComparable(f"code for {board} runs in one thread")

    def give(self, feeds: Sequence[Feed]) -> None:
        """See Contender."""
        self._held = []  # the library keeps the addresses only
        for i, (value, feed) in enumerate(zip(self._graph.inputs, feeds, strict=True)):
            array = feed.of_type(np.dtype(value.type.dtype.numpy))
            layout = self._graph.input_layout(i)
            if layout is not None:
                array = array.transpose(layout)
            held = np.ascontiguousarray(array).reshape(value.type.shape)
            self._held.append(held)
            self._library.ts_bench_give(ctypes.c_uint32(i), held.ctypes.data_as(ctypes.c_void_p))

    def outputs(self) -> Sequence[Array]:
        """See Contender."""
        arrays: list[Array] = []
        for i, value in enumerate(self._graph.outputs):
            type_ = value.type
            address = self._library.ts_bench_output(ctypes.c_uint32(i))
            raw = ctypes.string_at(address, type_.bytes)
            array = np.frombuffer(raw, type_.dtype.numpy).reshape(type_.shape)
            arrays.append(to_onnx_layout(self._graph, i, array[None])[0])
        return arrays

    def node_seconds(self, runs: int) -> Array:
        """Of a library with a trace: the median time of every node, float64 [nodes]."""
        times = np.zeros((runs, len(self._graph.nodes)), np.uint64)
        for row in times:
            address = row.ctypes.data_as(ctypes.c_void_p)
            self._library.ts_bench_run_traced(address, ctypes.c_uint32(len(row)))
        return np.median(times, axis=0) * 1e-9

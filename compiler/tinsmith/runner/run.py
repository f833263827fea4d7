"""Runs a compiled project on samples, on the host or in the emulator of its board."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from os import PathLike
from pathlib import Path

import numpy as np

from ..codegen.project import read_graph
from ..codegen.report import read_report
from ..errors import CompileError, InternalError, Refused
from ..ir.dtypes import Array
from ..ir.graph import Graph
from ..machine.board import Board, emulated, load_board
from ..quant.arithmetic import dequantize_array
from ..quant.samples import load_samples, match_samples
from ..toolchain.compile_c import firmware, rebuild_if_changed
from ..trust.manifest import check_manifest
from .execute import PROCESSES, Progress, run_samples
from .protocol import REFUSED, Result, Sample

Inputs = Mapping[str, Array] | Array | str | Path


@dataclass(frozen=True)
class Project:
    """A compiled project, read back. protected: it has a secure and a non-secure image."""

    folder: Path
    graph: Graph
    board: Board
    protected: bool = False

    def elf(self, *, trace: bool = False) -> Path:
        """The ELF that runs here: for a board with a twin, the twin's."""
        return firmware(self.folder, trace=trace, twin=bool(self.board.twin))


@dataclass(frozen=True)
class RunResult:
    """Outputs and measurements of a run.

    Attributes:
        outputs: per graph output its name and its samples in ONNX layout, int8 or float32: a batch
            of 1 becomes the samples' axis, [samples, *shape[1:]]; other shapes are stacked.
        device_outputs: the same in the device's layout, in the order of the graph.
        instructions: executed by the model alone, per sample; None on the host.
        stack_painted_bytes: the deepest stack use seen, from the model's call down; 0 on the host.
    """

    graph: Graph
    outputs: Mapping[str, Array]
    device_outputs: tuple[Array, ...]
    instructions: Array | None
    stack_painted_bytes: int

    @property
    def instructions_per_inference(self) -> int | None:
        """The mean over the samples, rounded."""
        return None if self.instructions is None else round(float(self.instructions.mean()))

    def dequantized(self) -> dict[str, Array]:
        """The outputs as float32."""
        types = {v.name: v.type for v in self.graph.outputs}
        return {
            name: dequantize_array(array, types[name]) if array.dtype == np.int8 else array
            for name, array in self.outputs.items()
        }


def open_project(folder: str | PathLike[str]) -> Project:
    """Raises CompileError when the folder is not a compiled project."""
    path = Path(folder)
    report = read_report(path)
    return Project(path, read_graph(path), load_board(report.board), report.trust is not None)


def device_samples(graph: Graph, inputs: Inputs) -> list[Array]:
    """Samples as the device takes them: [samples, *shape] per graph input.

    inputs: a `.npz` file, arrays by input name, or one array for a model with one input; see
    `quant.samples` for the shapes and types accepted. Raises BadInput.
    """
    if isinstance(inputs, str | Path):
        return load_samples(inputs, graph)
    named = inputs if isinstance(inputs, Mapping) else {"x": inputs}
    return match_samples(named, graph)


def run(
    folder: str | PathLike[str],
    inputs: Inputs,
    *,
    progress: Progress | None = None,
    processes: int = PROCESSES,
) -> RunResult:
    """Run a compiled project on every sample.

    Raises BadInput for inputs that do not match, MissingTool without the emulator, CompileError for
    a folder that is not a built project, InternalError when the firmware fails.
    """
    project = open_project(folder)
    samples = device_samples(project.graph, inputs)
    return run_project(project, samples, progress=progress, processes=processes)


def run_project(
    project: Project,
    samples: list[Array],
    *,
    progress: Progress | None = None,
    processes: int = PROCESSES,
) -> RunResult:
    """`run` of samples that are in the device's layout and dtype.

    A project whose C was changed since it was built is built again; the images of a protected one
    must be those of its manifest. Raises NotAuthentic.
    """
    if project.protected:
        check_manifest(project.folder)
    else:
        rebuild_if_changed(project.folder, project.board)
    elf = project.elf()
    if not elf.is_file():
        raise CompileError(
            f"{project.folder} is not built: it has no {elf.name}", hint="compile the model again"
        )
    graph = project.graph
    types = [v.type for v in graph.outputs]
    rows = [Sample(tuple(row)) for row in zip(*samples, strict=True)]
    results = run_samples(elf, project.board, [types], rows, processes=processes, progress=progress)
    check_status(results)
    columns = zip(*(r.outputs for r in results), strict=True)
    device = tuple(np.stack(column) for column in columns)
    onnx = (_batched(to_onnx_layout(graph, i, array)) for i, array in enumerate(device))
    return RunResult(
        graph,
        dict(zip((v.name for v in graph.outputs), onnx, strict=True)),
        device,
        count_instructions(project.board, results),
        max(r.stack_bytes for r in results),
    )


def count_instructions(board: Board, results: list[Result]) -> Array | None:
    """Executed instructions of each run, to the nearest; None where the board cannot count."""
    counter = emulated(board).counter
    if counter.kind == "none":
        return None
    ratio = Fraction(counter.instructions, counter.ticks)
    return np.array([round(r.ticks * ratio) for r in results], np.int64)


def _batched(outputs: Array) -> Array:
    """[samples, 1, …] → [samples, …], as inputs are given too."""
    return outputs[:, 0] if outputs.ndim > 1 and outputs.shape[1] == 1 else outputs


def to_onnx_layout(graph: Graph, index: int, array: Array) -> Array:
    """[samples, *shape] of graph output `index` → the axes of the model file."""
    layouts = graph.output_layouts
    layout = layouts[index] if index < len(layouts) else None
    if layout is None:
        return array
    return array.transpose(0, *(int(a) + 1 for a in np.argsort(layout)))


def check_status(results: Sequence[Result]) -> None:
    """Raises InternalError when a run did not succeed, Refused when it was not authorised."""
    for index, result in enumerate(results):
        if result.status == REFUSED:
            raise Refused(
                f"sample {index}: the secure world refused to authorise the inference",
                hint="its quota of queries per boot is used up, or the calls were out of order",
            )
        if result.status != 0:
            raise InternalError(f"sample {index}: the model returned status {result.status}")

"""Runs a compiled project on samples, on the host or in the emulator of its board."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike

import numpy as np

from ..errors import CompileError
from ..ir.dtypes import Array
from ..ir.graph import Graph
from ..quant.arithmetic import dequantize_array
from ..toolchain.compile_c import rebuild_if_changed
from .execute import PROCESSES, Progress, run_samples
from .learnt import boot
from .project import (
    Inputs,
    Project,
    check_images,
    check_status,
    count_cycles,
    count_instructions,
    device_samples,
)
from .protocol import Sample


@dataclass(frozen=True)
class RunResult:
    """Outputs and measurements of a run.

    Attributes:
        outputs: per graph output its name and its samples in ONNX layout, int8 or float32: a batch
            of 1 becomes the samples' axis, [samples, *shape[1:]]; other shapes are stacked.
        device_outputs: the same in the device's layout, in the order of the graph.
        instructions: executed by the model alone, per sample; None on the host.
        cycles: of the model alone, per sample, of a physical board at a port; else None.
        stack_painted_bytes: the deepest stack use seen, from the model's call down; 0 on the host.
        commit: the counter of the store whose state answered; 0 for what was compiled.
    """

    graph: Graph
    outputs: Mapping[str, Array]
    device_outputs: tuple[Array, ...]
    instructions: Array | None
    stack_painted_bytes: int
    commit: int = 0
    cycles: Array | None = None

    @property
    def instructions_per_inference(self) -> int | None:
        """The mean over the samples, rounded."""
        return None if self.instructions is None else round(float(self.instructions.mean()))

    @property
    def cycles_per_inference(self) -> int | None:
        """The mean over the samples, rounded."""
        return None if self.cycles is None else round(float(self.cycles.mean()))

    def dequantized(self) -> dict[str, Array]:
        """The outputs as float32."""
        types = {v.name: v.type for v in self.graph.outputs}
        return {
            name: dequantize_array(array, types[name]) if array.dtype == np.int8 else array
            for name, array in self.outputs.items()
        }


def run(
    folder: str | PathLike[str],
    inputs: Inputs,
    *,
    fresh: bool = False,
    progress: Progress | None = None,
    processes: int = PROCESSES,
) -> RunResult:
    """Run a compiled project on every sample, as its device does after it starts.

    fresh: with what was compiled, and not with what the device has learnt and committed.

    Raises BadInput for inputs that do not match, MissingTool without the emulator, CompileError for
    a folder that is not a built project, InternalError when the firmware fails.
    """
    project = boot(folder, fresh=fresh)
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
        check_images(project)
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
    results = run_samples(
        elf, project.board, [types], rows,
        start=project.start, processes=processes, progress=progress,
    )  # fmt: skip
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
        project.commit,
        count_cycles(project.board, results),
    )


def _batched(outputs: Array) -> Array:
    """[samples, 1, …] → [samples, …], as inputs are given too."""
    return outputs[:, 0] if outputs.ndim > 1 and outputs.shape[1] == 1 else outputs


def to_onnx_layout(graph: Graph, index: int, array: Array) -> Array:
    """[samples, *shape] of graph output `index` → the axes of the model file."""
    layout = graph.output_layout(index)
    if layout is None:
        return array
    return array.transpose(0, *(int(a) + 1 for a in np.argsort(layout)))

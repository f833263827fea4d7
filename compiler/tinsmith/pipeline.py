"""The whole compiler: ONNX → FLOAT → QUANTIZED → SCHEDULED → PLANNED → C project → firmware."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path

from onnx import ModelProto

from .codegen.emit import Program
from .codegen.project import read_graph, write_project
from .codegen.report import Report, make_report, read_report, write_report
from .codegen.schedule import schedule
from .errors import CompileError
from .frontend.model_file import ModelSource
from .frontend.onnx_export import export_model
from .frontend.onnx_import import import_model
from .ir.dtypes import Array, DType
from .ir.graph import Graph
from .machine.board import Board, load_board
from .pass_manager import PassContext, run_passes
from .passes import (
    eliminate_dead_nodes,
    fold_batch_norm,
    fold_constants,
    fold_qdq,
    fuse_activation,
    fuse_bias,
    insert_qdq,
    legalize_layout,
    lower_requantize,
)
from .plan.fit import fit
from .plan.timeline import draw_arena
from .quant.calibrate import calibrate
from .quant.correct_bias import correct_biases
from .quant.equalize_channels import equalize_channels
from .quant.quality import LayerQuality, quality
from .quant.ranges import Method
from .quant.samples import Samples, read_samples
from .toolchain.compile_c import firmware
from .toolchain.firmware import Firmware, build_firmware

__all__ = [
    "CompiledProject",
    "QuantizedModel",
    "canonical",
    "compile_model",
    "load",
    "lower",
    "quantize_model",
    "schedule",
]

CANONICALIZE = (
    fold_constants.PASS,
    eliminate_dead_nodes.PASS,
    fold_batch_norm.PASS,
    fuse_bias.PASS,
    fuse_activation.PASS,
    eliminate_dead_nodes.PASS,
)
QUANTIZE = (insert_qdq.PASS,)  # with calibration only; `tinsmith quantize` stops after it
TO_INT8 = (
    legalize_layout.PASS,
    eliminate_dead_nodes.PASS,  # before nodes become integer: it joins the reshapes of new layouts
    fold_qdq.PASS,
    lower_requantize.PASS,
)
TO_FLOAT32 = (legalize_layout.PASS, eliminate_dead_nodes.PASS)

QUALITY_SAMPLES = 32  # enough for the noise of a layer; float runs of a large network take time


@dataclass(frozen=True)
class CompiledProject:
    """A compiled project on disk.

    graph: what the device computes, for the oracle. timings: seconds per pass, in order; none in a
    project that was loaded.
    """

    folder: Path
    graph: Graph
    board: Board
    report: Report
    timings: tuple[tuple[str, float], ...] = field(default=(), compare=False)

    @property
    def elf(self) -> Path:
        """The firmware for the board."""
        return firmware(self.folder)

    def __fspath__(self) -> str:
        return str(self.folder)


@dataclass(frozen=True)
class QuantizedModel:
    """model: standard ONNX in QDQ form. layers: quality, worst first. timings: seconds per pass."""

    model: ModelProto
    layers: tuple[LayerQuality, ...]
    notes: tuple[str, ...]
    timings: tuple[tuple[str, float], ...]


def compile_model(
    source: ModelSource,
    *,
    board: str,
    out: str | Path,
    calibrate: Samples | None = None,
    dtype: str = "int8",
    ram: int | None = None,
    flash: int | None = None,
    method: Method = "auto",
    exact_plan: bool = False,
    strict: bool = False,
    bind: Mapping[str, int] | None = None,
    name: str | None = None,
    pictures: bool = True,
    progress: Callable[[str], None] | None = None,
    print_after: Callable[[str, str], None] | None = None,
) -> CompiledProject:
    """Compile a model into a C project with its firmware, in the folder `out`.

    Args:
        source: path, bytes or ModelProto; float, or quantised as QDQ or QLinear.
        board: a name under boards/.
        calibrate: samples that quantise a float model: an .npz file, or arrays by input name.
        dtype: "int8", or "float32" for a network that stays float.
        ram, flash: budgets in bytes that replace the board's.
        exact_plan: prove the arena smallest, with the `plan` extra.
        strict: every note (a slow generic kernel, a clamped bias) is an error.
        bind: sizes of dynamic dimensions but the batch. name: of the model, by default the file's.
        pictures: draw the arena, which takes a second.

    Raises CompileError: ImportFailure, UnsupportedModel, BadInput, DoesNotFit, MissingTool…
    """
    machine, folder = load_board(board), Path(out)
    context = PassContext(print_after=print_after, progress=progress)
    graph = canonical(source, context, name=name, bind=bind)
    graph = lower(graph, dtype, calibrate, method, context)
    ram_budget = ram or machine.ram_bytes
    arena_budget = ram_budget - machine.stack_bytes if ram_budget else None
    program = schedule(graph, machine, arena_budget, exact_plan, context)
    if ram_budget:
        fit(program.plan, ram_budget, other_ram_bytes=machine.stack_bytes, board=board)
    program = replace(program, sample=_first_sample(calibrate, program.graph))
    if strict and context.notes:
        raise CompileError("not compiled, because of --strict:\n  " + "\n  ".join(context.notes))
    with context.step("emit"):
        weights_bytes = write_project(folder, program)
    if pictures:
        with context.step("draw_arena"):
            draw_arena(folder, program.plan, budget=arena_budget, title=program.c_name)
    with context.step("build"):
        built = build_firmware(
            folder, program.graph, machine, ram=ram, flash=flash, peak_node=program.plan.peak_node
        )
    report = _report(program, machine, weights_bytes, built, context)
    write_report(folder, report)
    return CompiledProject(folder, program.graph, machine, report, tuple(context.timings))


def quantize_model(
    source: ModelSource,
    calibrate_with: Samples,
    *,
    method: Method = "auto",
    equalize: bool = False,
    correct_bias: bool = False,
    bind: Mapping[str, int] | None = None,
    name: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> QuantizedModel:
    """Quantise a float model: a QDQ ONNX model, and the noise that every layer adds.

    equalize: even out the channels between layers first. correct_bias: take out the shift that
    rounding the weights gives every layer.

    Raises CompileError for a model that is quantised already, and what importing raises.
    """
    context = PassContext(progress=progress)
    graph = canonical(source, context, name=name, bind=bind)
    if is_quantized(graph):
        raise CompileError("the model is quantised already", hint="compile it as it is")
    samples = read_samples(calibrate_with, graph)
    if equalize:
        with context.step("equalize_channels"):
            graph, pairs = equalize_channels(graph, samples)
        context.note(f"channels equalised between {pairs} pairs of layers")
    with context.step("calibrate"):
        context.calibration = calibrate(graph, samples, method)
    quantized = run_passes(graph, QUANTIZE, context)
    if correct_bias:
        with context.step("correct_biases"):
            corrected = correct_biases(graph, quantized, samples)
        quantized = run_passes(corrected, QUANTIZE, context)
    with context.step("export_model"):
        model = export_model(quantized)
    with context.step("quality"):
        layers = quality(graph, quantized, [s[:QUALITY_SAMPLES] for s in samples])
    return QuantizedModel(model, tuple(layers), tuple(context.notes), tuple(context.timings))


def canonical(
    source: ModelSource,
    context: PassContext,
    *,
    name: str | None = None,
    bind: Mapping[str, int] | None = None,
) -> Graph:
    """Import a model and run the passes that every use of it starts with."""
    with context.step("import_model"):
        graph = import_model(source, name=name, bind=bind)
    return run_passes(graph, CANONICALIZE, context)


def lower(
    graph: Graph, dtype: str, samples: Samples | None, method: Method, context: PassContext
) -> Graph:
    """Canonical FLOAT graph → the graph that kernels are selected for, int8 or float32."""
    if dtype not in ("int8", "float32"):
        raise CompileError(f"unknown dtype {dtype!r}", expected="int8 or float32")
    if dtype == "float32":
        if samples is not None:
            context.note("the calibration samples are not used: --dtype float32 quantises nothing")
        if is_quantized(graph):
            raise CompileError(
                "the model is quantised and cannot run in float32", hint="leave out --dtype float32"
            )
        return run_passes(graph, TO_FLOAT32, context)
    if samples is None and not is_quantized(graph):
        raise CompileError(
            "the model is float32, and int8 needs to know the range of its values",
            hint="give samples with --calibrate F.npz, or compile with --dtype float32",
        )
    if samples is not None:
        missing = insert_qdq.gaps(graph)
        if missing:
            with context.step("calibrate"):
                context.calibration = calibrate(graph, read_samples(samples, graph), method)
            graph = run_passes(graph, QUANTIZE, context)
        else:
            context.note("the calibration samples are not used: the model is quantised already")
    return run_passes(graph, TO_INT8, context)


def load(folder: str | PathLike[str]) -> CompiledProject:
    """A project that `compile_model` wrote. Raises CompileError when the folder holds none."""
    folder = Path(folder)
    report = read_report(folder)
    return CompiledProject(folder, read_graph(folder), load_board(report.board), report)


def is_quantized(graph: Graph) -> bool:
    """Whether the model brought its own int8 scales."""
    quantizers = ("quantize", "dequantize")
    return any(n.op.name in quantizers for n in graph.nodes) or any(
        v.type.dtype is DType.INT8 for v in graph.inputs
    )


def _report(
    program: Program, board: Board, weights_bytes: int, built: Firmware, context: PassContext
) -> Report:
    """What the compiler knows, with the sizes of the linked ELF."""
    report = make_report(
        program.graph,
        program.calls,
        program.plan,
        board=board.name,
        target=board.target.name,
        c_name=program.c_name,
        weights_bytes=weights_bytes,
        notes=context.notes,
    )
    report.flash_bytes = built.sizes.flash_bytes
    report.model_flash_bytes = built.sizes.model_flash_bytes
    report.ram_bytes = built.sizes.ram_bytes
    report.stack_bytes = built.stack.bytes if built.stack else None
    return report


def _first_sample(samples: Samples | None, graph: Graph) -> list[Array] | None:
    """What the self-test embeds: the first calibration sample as the device takes it."""
    if samples is None:
        return None
    return [array[0] for array in read_samples(samples, graph, 1)]

"""The whole compiler: ONNX → FLOAT → QUANTIZED → SCHEDULED → PLANNED → C project → firmware."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from onnx import ModelProto

from .codegen.emit import Program
from .codegen.project import read_graph, write_project
from .codegen.report import Report, make_report, read_report, write_report
from .errors import CompileError
from .frontend.model_file import ModelSource
from .frontend.onnx_export import export_model
from .frontend.onnx_import import import_model
from .ir.dtypes import Array, DType
from .ir.graph import Graph, Node, Stage
from .ir.verify import verify
from .kernels.select import generic_kernels, select_kernels
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
from .plan.arena import plan_arena
from .plan.check import check_plan
from .plan.fit import fit
from .plan.order import order_nodes
from .quant.calibrate import calibrate
from .quant.quality import LayerQuality, quality
from .quant.ranges import Method
from .quant.samples import load_samples, match_samples
from .toolchain.compile_c import firmware
from .toolchain.firmware import build_firmware

Samples = str | Path | Mapping[str, Array]

CANONICALIZE = (
    fold_constants.PASS,
    eliminate_dead_nodes.PASS,
    fold_batch_norm.PASS,
    fuse_bias.PASS,
    fuse_activation.PASS,
    eliminate_dead_nodes.PASS,
)
QUANTIZE = (insert_qdq.PASS,)  # with calibration only; `tinsmith quantize` stops after it
TO_INT8 = (legalize_layout.PASS, fold_qdq.PASS, lower_requantize.PASS)
TO_FLOAT32 = (legalize_layout.PASS, eliminate_dead_nodes.PASS)

QUALITY_SAMPLES = 32  # enough for the noise of a layer; float runs of a large network take time


@dataclass(frozen=True)
class CompiledProject:
    """A compiled project on disk. graph: what the device computes, for the oracle."""

    folder: Path
    graph: Graph
    board: Board
    report: Report

    @property
    def elf(self) -> Path:
        """The firmware for the board."""
        return firmware(self.folder)


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
    with step("emit", context):
        weights_bytes = write_project(folder, program)
    with step("build", context):
        built = build_firmware(
            folder, program.graph, machine, ram=ram, flash=flash, peak_node=program.plan.peak_node
        )
    report = make_report(
        program.graph,
        program.calls,
        program.plan,
        board=board,
        target=machine.target.name,
        c_name=program.c_name,
        weights_bytes=weights_bytes,
        notes=context.notes,
        timings=context.timings,
    )
    report.flash_bytes = built.sizes.flash_bytes
    report.model_flash_bytes = built.sizes.model_flash_bytes
    report.ram_bytes = built.sizes.ram_bytes
    report.stack_bytes = built.stack.bytes if built.stack else None
    write_report(folder, report)
    return CompiledProject(folder, program.graph, machine, report)


def quantize_model(
    source: ModelSource,
    calibrate_with: Samples,
    *,
    method: Method = "auto",
    bind: Mapping[str, int] | None = None,
    name: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> QuantizedModel:
    """Quantise a float model: a QDQ ONNX model, and the noise that every layer adds.

    Raises CompileError for a model that is quantised already, and what importing raises.
    """
    context = PassContext(progress=progress)
    graph = canonical(source, context, name=name, bind=bind)
    if is_quantized(graph):
        raise CompileError("the model is quantised already", hint="compile it as it is")
    samples = read_samples(calibrate_with, graph)
    with step("calibrate", context):
        context.calibration = calibrate(graph, samples, method)
    quantized = run_passes(graph, QUANTIZE, context)
    with step("export_model", context):
        model = export_model(quantized)
    with step("quality", context):
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
    with step("import_model", context):
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
    if not is_quantized(graph):
        if samples is None:
            raise CompileError(
                "the model is float32, and int8 needs to know the range of its values",
                hint="give samples with --calibrate F.npz, or compile with --dtype float32",
            )
        with step("calibrate", context):
            context.calibration = calibrate(graph, read_samples(samples, graph), method)
        graph = run_passes(graph, QUANTIZE, context)
    elif samples is not None:
        context.note("the calibration samples are not used: the model is quantised already")
    return run_passes(graph, TO_INT8, context)


def schedule(
    graph: Graph, board: Board, arena_budget: int | None, exact: bool, context: PassContext
) -> Program:
    """Kernels, order and arena: the PLANNED graph with all that the generator needs."""
    with step("select_kernels", context):
        calls = {c.node.name: c for c in select_kernels(graph, board.target)}
    for text in generic_kernels(list(calls.values()), board.target):
        context.note(text)

    def scratch_of(node: Node) -> int:
        return calls[node.name].scratch_bytes if node.name in calls else 0

    def lead_of(node: Node, index: int) -> int | None:
        return calls[node.name].kernel.lead_bytes(node, index) if node.name in calls else None

    with step("order_nodes", context):
        graph = order_nodes(graph, scratch_of, lead_of)
    verify(graph, "after order_nodes")
    ordered = [calls[n.name] for n in graph.nodes if n.name in calls]
    with step("plan_arena", context):
        alignment = board.target.arena_alignment
        plan = plan_arena(graph, ordered, alignment, arena_budget, exact=exact)
    with step("check_plan", context):
        check_plan(graph, ordered, plan)
    graph = replace(graph, stage=Stage.PLANNED)
    verify(graph, "after plan_arena")
    return Program(graph, ordered, plan)


def load(folder: str | Path) -> CompiledProject:
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


def read_samples(samples: Samples, graph: Graph, limit: int | None = None) -> list[Array]:
    """One array [samples, *shape] per graph input; `limit`: at most so many samples."""
    if isinstance(samples, Mapping):
        return match_samples({k: a[:limit] for k, a in samples.items()}, graph)
    return load_samples(samples, graph, limit)


@contextmanager
def step(name: str, context: PassContext) -> Generator[None]:
    """Tell and time a step that is not a pass over the graph; name it in errors."""
    if context.progress:
        context.progress(name)
    started = time.perf_counter()
    try:
        yield
    except CompileError as error:
        error.where = error.where or name
        raise
    context.timings.append((name, time.perf_counter() - started))


def _first_sample(samples: Samples | None, graph: Graph) -> list[Array] | None:
    """What the self-test embeds: the first calibration sample as the device takes it."""
    if samples is None:
        return None
    return [array[0] for array in read_samples(samples, graph, 1)]

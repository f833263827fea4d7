"""The whole compiler: ONNX → FLOAT → QUANTIZED → SCHEDULED → PLANNED → C project → firmware."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

from onnx import ModelProto

from .codegen.program import Program
from .codegen.project import read_graph, write_network, write_project
from .codegen.provenance import provenance
from .codegen.report import Report, read_report, write_report
from .codegen.sample import with_sample
from .codegen.schedule import schedule
from .codegen.schedule_model import schedule_model
from .errors import CompileError
from .frontend.model_file import ModelSource
from .frontend.onnx_export import export_model
from .ir.graph import Graph
from .kernels.aim import Aim, Objective
from .kernels.overrides import read_overrides
from .lowering import QUANTIZE, TO_INT8, canonical, is_quantized, lower, with_scales
from .machine.board import Board, load_board
from .pass_manager import PassContext, run_passes
from .passes import fold_constant_channels
from .plan.timeline import draw_arena
from .quant.batch import with_batch
from .quant.calibrate import calibrate
from .quant.correct_bias import correct_biases
from .quant.equalize_channels import equalize_channels
from .quant.quality import LayerQuality, quality
from .quant.ranges import Method
from .quant.samples import Samples, read_samples
from .recover_accuracy import FineTune, FineTuned, recover_accuracy
from .toolchain.built_report import built_report
from .toolchain.compile_c import firmware
from .toolchain.firmware import build_firmware
from .toolchain.harness import HARNESS_BYTES, with_uart
from .toolchain.tuned import with_tuned
from .train.scheme import Scheme, read_scheme
from .trust.learning_files import learning_of
from .trust.project import Protection, check_protectable, development_device, write_protected

__all__ = [
    "QUANTIZE",
    "TO_INT8",
    "CompiledProject",
    "QuantizedModel",
    "canonical",
    "compile_model",
    "load",
    "lower",
    "quantize_model",
    "schedule",
]

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
    """model: standard ONNX in QDQ form. layers: quality, worst first. timings: seconds per pass.

    fine_tuned: what fine-tuning did, where it was asked for.
    """

    model: ModelProto
    layers: tuple[LayerQuality, ...]
    notes: tuple[str, ...]
    timings: tuple[tuple[str, float], ...]
    fine_tuned: FineTuned | None = None


def compile_model(
    source: ModelSource,
    *,
    board: str,
    out: str | Path,
    cpu: str | None = None,
    tuned: str | PathLike[str] | None = None,
    calibrate: Samples | None = None,
    dtype: str = "int8",
    train: str | PathLike[str] | Scheme | None = None,
    trust: Protection | str | None = None,
    ram: int | None = None,
    flash: int | None = None,
    method: Method = "auto",
    exact_plan: bool = False,
    strict: bool = False,
    fold_channels: bool = True,
    optimize: Objective = "instructions",
    kernels: str | PathLike[str] | None = None,
    bind: Mapping[str, int] | None = None,
    batch: int = 1,
    name: str | None = None,
    pictures: bool = True,
    harness: str = "semihosting",
    baud: int | None = None,
    progress: Callable[[str], None] | None = None,
    print_after: Callable[[str, str], None] | None = None,
) -> CompiledProject:
    """Compile a model into a C project with its firmware, in the folder `out`.

    Args:
        source: path, bytes or ModelProto; float, or quantised as QDQ or QLinear.
        board: a name under boards/. cpu: one of its targets, where it has several.
        tuned: what `tinsmith tune` found for that target.
        calibrate: samples that quantise a float model: an .npz file, or arrays by input name.
        dtype: "int8", or "float32" for a network that stays float.
        train: an update scheme, `update.toml`: the project learns on the device.
        trust: divide it into a secure and a non-secure image, in this mode, for a device with a
            secret of its own that is not kept; `protect` makes those of other devices.
        ram, flash: budgets in bytes that replace the board's.
        exact_plan: prove the arena smallest, with the `plan` extra.
        optimize: what is made least by the choice of kernels: "instructions", estimated "cycles",
            "flash" or "ram" (docs/kernels.md). kernels: a file with nodes whose kernel is given.
        fold_channels: remove channels that are proven constant or unread; exact.
        strict: every note (a slow generic kernel, a clamped bias) is an error.
        bind: sizes of dynamic dimensions but the batch. batch: samples that one run computes, side
            by side. name: of the model, by default the file's.
        pictures: draw the arena, which takes a second.
        harness: how the firmware talks to this machine: one of `HARNESSES`; baud: of its
            UART.

    Raises CompileError: ImportFailure, UnsupportedModel, BadInput, DoesNotFit, MissingTool…
    """
    machine, folder = with_tuned(load_board(board, cpu), tuned), Path(out)
    machine = with_uart(machine, harness, baud, protected=trust is not None)
    trust = Protection(trust) if isinstance(trust, str) else trust
    if trust is not None:
        check_protectable(machine, dtype)
    options = {fold_constant_channels.NAME: fold_channels}
    context = PassContext(options=options, print_after=print_after, progress=progress)
    graph = canonical(source, context, name=name, bind=bind)
    scheme = train if train is None or isinstance(train, Scheme) else read_scheme(train)
    network = None
    samples = calibrate
    if scheme is not None and dtype == "float32":
        network = graph
    elif scheme is not None:
        network, samples = with_scales(graph, calibrate, method, context), None
    single = lower(network or graph, dtype, samples, method, context, scheme)
    graph = with_batch(single, batch)
    budget = ram or machine.ram_bytes
    aim = Aim(optimize, flash, read_overrides(kernels), HARNESS_BYTES[harness])
    program = schedule_model(graph, machine, budget, exact_plan, context, aim)
    program = with_sample(program, calibrate, single, batch)
    if strict and context.notes:
        raise CompileError("not compiled, because of --strict:\n  " + "\n  ".join(context.notes))
    if trust is not None:
        learning = None
        if network is not None and scheme is not None and program.train is not None:
            learning = learning_of(network, program.train.graph, scheme)
        for_device = development_device()
        report = write_protected(
            folder, program.graph, machine, trust, for_device, context,
            learning=learning, sample=program.sample, ram=ram, flash=flash, aim=aim,
            source=provenance(source, calibrate), pictures=pictures, harness=harness,
        )  # fmt: skip
        return CompiledProject(folder, program.graph, machine, report, tuple(context.timings))
    with context.step("emit"):
        weights_bytes = write_project(folder, program)
        if network is not None and scheme is not None:
            write_network(folder, network, scheme)
    if pictures:
        with context.step("draw_arena"):
            _draw(folder, program, ram or machine.ram_bytes, machine)
    with context.step("build"):
        built = build_firmware(
            folder,
            program.graph,
            machine,
            ram=ram,
            flash=flash,
            peak_node=program.peak_node,
            train=program.train.graph if program.train else None,
            harness=harness,
        )
    report = built_report(program, machine, weights_bytes, built, context)
    report.source = provenance(source, calibrate)
    report.optimize, report.pinned_kernels = aim.objective, dict(aim.pins)
    write_report(folder, report)
    return CompiledProject(folder, program.graph, machine, report, tuple(context.timings))


def quantize_model(
    source: ModelSource,
    calibrate_with: Samples,
    *,
    method: Method = "auto",
    equalize: bool = False,
    correct_bias: bool = False,
    finetune: FineTune | None = None,
    bind: Mapping[str, int] | None = None,
    name: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> QuantizedModel:
    """Quantise a float model: a QDQ ONNX model, and the noise that every layer adds.

    equalize: even out the channels between layers first. correct_bias: take out the shift that
    rounding the weights gives every layer. finetune: then let the quantised network learn.

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
    tuned = None
    if finetune is not None:
        with context.step("fine_tune"):
            tuned = recover_accuracy(graph, quantized, finetune, context)
        quantized = tuned.network
    with context.step("export_model"):
        model = export_model(quantized)
    with context.step("quality"):
        layers = quality(graph, quantized, [s[:QUALITY_SAMPLES] for s in samples])
    notes, timings = tuple(context.notes), tuple(context.timings)
    return QuantizedModel(model, tuple(layers), notes, timings, tuned)


def load(folder: str | PathLike[str]) -> CompiledProject:
    """A project that `compile_model` wrote. Raises CompileError when the folder holds none."""
    folder = Path(folder)
    report = read_report(folder)
    return CompiledProject(
        folder, read_graph(folder), load_board(report.board, report.target), report
    )


def _draw(folder: Path, program: Program, ram_budget: int | None, board: Board) -> None:
    for part, stem, what in ((program, "arena", ""), (program.train, "train_arena", ", training")):
        if part is not None:
            budget = ram_budget - board.stack_bytes if ram_budget else None
            title = f"{program.c_name}{what}"
            draw_arena(folder, part.plan, budget=budget, title=title, stem=stem)

"""The commands that work on a model: analyze, quantize, compile."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast, get_args

import onnx
import typer

from ..codegen.schedule_model import schedule_model
from ..errors import BadInput, CompileError
from ..kernels.aim import Aim, Objective
from ..machine.board import load_board
from ..pass_manager import PassContext
from ..passes import fold_constant_channels
from ..pipeline import canonical, compile_model, lower, quantize_model
from ..plan.report import arena_map
from ..quant.quality import quality_json, quality_table
from ..quant.ranges import Method
from ..recover_accuracy import FineTune
from ..train.scheme import read_scheme
from ..trust.project import Protection
from . import show
from .console import err, out, print_json, progress, reported
from .fine_tuned import fine_tuned_data, show_fine_tuned
from .options import (
    AsJson,
    Batch,
    Bind,
    Board,
    Cpu,
    Dtype,
    FoldChannels,
    MethodName,
    Model,
    Optimize,
    Quota,
    Samples,
    Timings,
    TrustCut,
    TrustMode,
    sizes,
)

ShowMap = Annotated[bool, typer.Option("--map/--no-map", help="the map of the arena")]


def chosen_method(name: str) -> Method:
    """Raises BadInput for an unknown calibration method."""
    if name not in get_args(Method):
        expected = f"one of {', '.join(get_args(Method))}"
        raise BadInput(f"unknown calibration method {name!r}", expected=expected)
    return cast(Method, name)


@reported
def analyze(
    model: Model,
    board: Board,
    cpu: Cpu = None,
    calibrate: Samples = None,
    dtype: Dtype = "int8",
    method: MethodName = "auto",
    bind: Bind = None,
    fold_channels: FoldChannels = True,
    optimize: Optimize = "instructions",
    show_map: ShowMap = True,
    timings: Timings = False,
    json: AsJson = False,
) -> None:
    """Say what compiling would give, node by node, without writing anything."""
    machine, how = load_board(board, cpu), chosen_method(method)
    with progress(f"analysing {model.name}") as step:
        options = {fold_constant_channels.NAME: fold_channels}
        context = PassContext(options=options, progress=step)
        graph = canonical(model, context, bind=sizes(bind))
        graph = lower(graph, dtype, calibrate, how, context)
        goal = cast(Objective, optimize)
        program = schedule_model(graph, machine, None, False, context, Aim(goal))
    rows = show.analysis_rows(program)
    if json:
        data = show.analysis_data(program, rows, board, context.notes)
        print_json({**data, "timings": context.timings} if timings else data)
        return
    show.analysis(program, rows, board)
    if show_map:
        out().print(arena_map(program.plan), markup=False)
    show.notes(context.notes, out())
    if timings:
        show.timings(context.timings, out())


@reported
def quantize(
    model: Model,
    calibrate: Annotated[
        Path, typer.Option("--calibrate", metavar="F.npz", help="samples, first axis")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="OUT.onnx", help="to write")],
    method: MethodName = "auto",
    bind: Bind = None,
    equalize: Annotated[
        bool, typer.Option("--equalize", help="even out the channels between layers first")
    ] = False,
    correct_bias: Annotated[
        bool, typer.Option("--correct-bias", help="take out the shift of rounded weights")
    ] = False,
    finetune: Annotated[
        Path | None,
        typer.Option(
            "--finetune", metavar="F.npz", help="then let it learn from x and labels y, or x alone"
        ),
    ] = None,
    epochs: Annotated[int, typer.Option(help="of --finetune")] = FineTune.epochs,
    rate: Annotated[float, typer.Option(help="of --finetune, falls to 0")] = FineTune.rate,
    scheme: Annotated[
        Path | None,
        typer.Option(
            "--finetune-scheme", metavar="update.toml", help="what learns; by default all that can"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="of --finetune: which samples judge, their order")] = 0,
    rows: Annotated[int, typer.Option("--rows", help="how many layers to list, worst first")] = 10,
    timings: Timings = False,
    json: AsJson = False,
) -> None:
    """Quantise a float model into QDQ ONNX, and say how much noise every layer adds."""
    how = chosen_method(method)
    if scheme is not None and finetune is None:
        raise CompileError("--finetune-scheme without --finetune", expected="samples to learn from")
    updates = read_scheme(scheme) if scheme is not None else None
    with progress(f"quantising {model.name}") as step:
        result = quantize_model(
            model,
            calibrate,
            method=how,
            equalize=equalize,
            correct_bias=correct_bias,
            finetune=FineTune(finetune, epochs, rate, updates, seed) if finetune else None,
            bind=sizes(bind),
            progress=step,
        )
    try:
        onnx.save(result.model, output)
    except OSError as error:
        raise CompileError(f"cannot write {output}: {error.strerror}") from error
    if json:
        print_json(
            {
                "model": str(output),
                "layers": quality_json(result.layers),
                "notes": list(result.notes),
                "fine_tuned": fine_tuned_data(result.fine_tuned),
                **({"timings": result.timings} if timings else {}),
            }
        )
        return
    out().print(quality_table(result.layers, rows))
    if result.fine_tuned:
        show_fine_tuned(result.fine_tuned)
    show.notes(result.notes, out())
    if timings:
        show.timings(result.timings, out())
    out().print(f"wrote {output}", markup=False)


@reported
def compile_(
    model: Model,
    board: Board,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="to write into")],
    cpu: Cpu = None,
    tuned: Annotated[
        Path | None, typer.Option("--tuned", metavar="F.json", help="what `tinsmith tune` found")
    ] = None,
    calibrate: Samples = None,
    dtype: Dtype = "int8",
    method: MethodName = "auto",
    ram: Annotated[int | None, typer.Option(min=1, help="bytes, in place of the board's")] = None,
    flash: Annotated[int | None, typer.Option(min=1, help="bytes, in place of the board's")] = None,
    train: Annotated[
        Path | None,
        typer.Option("--train", metavar="update.toml", help="learn on the device, as this says"),
    ] = None,
    trust: TrustMode = None,
    trust_cut: TrustCut = None,
    quota: Quota = None,
    bind: Bind = None,
    batch: Batch = 1,
    name: Annotated[
        str | None, typer.Option(help="of the model in C; by default the file's")
    ] = None,
    fold_channels: FoldChannels = True,
    optimize: Optimize = "instructions",
    exact: Annotated[
        bool, typer.Option("--exact-plan", help="search the smallest arena with OR-tools")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="every note is an error")] = False,
    print_after: Annotated[
        str | None, typer.Option("--print-after", metavar="PASS", help="the graph, on stderr")
    ] = None,
    timings: Timings = False,
    json: AsJson = False,
) -> None:
    """Compile a model for a board: C sources, the linked ELF, report.json."""
    how = chosen_method(method)
    if trust is None and (trust_cut is not None or quota is not None):
        raise CompileError("--trust-cut and --quota are of a protected model", hint="give --trust")
    protection = None if trust is None else Protection(trust, trust_cut, quota)

    def print_graph(pass_name: str, text: str) -> None:
        if pass_name == print_after:
            err().print(text, markup=False)

    with progress(f"compiling {model.name} for {board}") as step:
        project = compile_model(
            model,
            board=board,
            out=output,
            cpu=cpu,
            tuned=tuned,
            calibrate=calibrate,
            dtype=dtype,
            train=train,
            trust=protection,
            ram=ram,
            flash=flash,
            method=how,
            fold_channels=fold_channels,
            optimize=cast(Objective, optimize),
            exact_plan=exact,
            strict=strict,
            bind=sizes(bind),
            batch=batch,
            name=name,
            progress=step,
            print_after=print_graph if print_after else None,
        )
    report, seconds = project.report, project.timings
    if json:
        data = show.report_data(report)
        print_json({**data, "timings": seconds} if timings else data)
        return
    show.compiled(report, output)
    show.notes(report.notes, out())
    if timings:
        show.timings(seconds, out())

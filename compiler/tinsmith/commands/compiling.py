"""The commands that make something of a model: quantize, compile."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import onnx
import typer

from ..errors import CompileError
from ..kernels.aim import Objective
from ..pipeline import compile_model, quantize_model
from ..quant.quality import quality_json, quality_table
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
    Budget,
    Cpu,
    Dtype,
    FoldChannels,
    KernelFile,
    MethodName,
    Model,
    Optimize,
    Quota,
    Samples,
    Timings,
    TrustCut,
    TrustMode,
    TunedFile,
    chosen_method,
    sizes,
)
from .serial import Harness, HarnessBaud


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
    tuned: TunedFile = None,
    calibrate: Samples = None,
    dtype: Dtype = "int8",
    method: MethodName = "auto",
    ram: Budget = None,
    flash: Budget = None,
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
    kernels: KernelFile = None,
    harness: Harness = "semihosting",
    baud: HarnessBaud = None,
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
            kernels=kernels,
            exact_plan=exact,
            strict=strict,
            bind=sizes(bind),
            batch=batch,
            name=name,
            harness=harness,
            baud=baud,
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

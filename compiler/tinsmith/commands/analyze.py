"""The command that says what compiling a model would give."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from ..codegen.schedule_model import schedule_model
from ..errors import CompileError
from ..kernels.aim import Aim, Objective
from ..kernels.overrides import read_overrides, write_overrides
from ..machine.board import load_board
from ..pass_manager import PassContext
from ..passes import fold_constant_channels
from ..pipeline import canonical, lower
from ..plan.report import arena_map
from ..toolchain.tuned import with_tuned
from . import show
from .console import out, print_json, progress, reported
from .options import (
    AsJson,
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
    Samples,
    Timings,
    TunedFile,
    chosen_method,
    sizes,
)
from .show_analysis import analysis, analysis_data, analysis_rows

ShowMap = Annotated[bool, typer.Option("--map/--no-map", help="the map of the arena")]
WriteKernels = Annotated[
    Path | None,
    typer.Option("--write-kernels", metavar="F.toml", help="the choice, to change it"),
]


@reported
def analyze(
    model: Model,
    board: Board,
    cpu: Cpu = None,
    tuned: TunedFile = None,
    calibrate: Samples = None,
    dtype: Dtype = "int8",
    method: MethodName = "auto",
    ram: Budget = None,
    flash: Budget = None,
    bind: Bind = None,
    fold_channels: FoldChannels = True,
    optimize: Optimize = "instructions",
    kernels: KernelFile = None,
    write_kernels: WriteKernels = None,
    show_map: ShowMap = True,
    timings: Timings = False,
    json: AsJson = False,
) -> None:
    """Say what compiling would give, node by node, without writing anything."""
    machine, how = with_tuned(load_board(board, cpu), tuned), chosen_method(method)
    aim = Aim(cast(Objective, optimize), flash, read_overrides(kernels))
    with progress(f"analysing {model.name}") as step:
        options = {fold_constant_channels.NAME: fold_channels}
        context = PassContext(options=options, progress=step)
        graph = canonical(model, context, bind=sizes(bind))
        graph = lower(graph, dtype, calibrate, how, context)
        program = schedule_model(graph, machine, ram, False, context, aim)
    if write_kernels is not None:
        if program.selection is None:
            raise CompileError("nothing was chosen")
        title = f"Kernels of {graph.name} for {board}, chosen for {optimize}"
        write_overrides(write_kernels, program.selection, title)
    rows = analysis_rows(program)
    if json:
        data = analysis_data(program, rows, board, context.notes)
        print_json({**data, "timings": context.timings} if timings else data)
        return
    analysis(program, rows, board)
    if show_map:
        out().print(arena_map(program.plan), markup=False)
    show.notes(context.notes, out())
    if timings:
        show.timings(context.timings, out())

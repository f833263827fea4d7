"""The program of a model under a board's RAM: plain, or in stripes of rows where that helps."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from ..errors import CompileError, DoesNotFit
from ..ir.graph import Graph
from ..machine.board import Board
from ..pass_manager import PassContext
from ..plan.fit import fit
from ..plan.stripes import stripe_rows
from .program import Program
from .schedule import kernel_library, schedule
from .state import StateBlock
from .training import inference_graph

Objective = Literal["instructions", "ram"]
OBJECTIVES: tuple[Objective, ...] = ("instructions", "ram")


def schedule_model(
    graph: Graph,
    board: Board,
    ram_budget: int | None,
    exact: bool,
    context: PassContext,
    optimize: Objective = "instructions",
) -> Program:
    """The program of a graph; of a training graph both programs, always in stripes.

    optimize: "ram" lets layers of high resolution run in stripes; "instructions" only where the
    model does not fit otherwise, which becomes a note. ram_budget: bytes; None: any.

    Raises DoesNotFit, CompileError for an unknown objective.
    """
    if optimize not in OBJECTIVES:
        raise CompileError(
            f"cannot optimise for {optimize!r}", expected=f"one of {', '.join(OBJECTIVES)}"
        )
    if graph.updates or optimize == "ram":
        return _fitted(_striped(graph, context), board, ram_budget, exact, context)
    try:
        return _fitted(graph, board, ram_budget, exact, context)
    except DoesNotFit as error:
        striped = _striped(graph, context)
        if striped is graph:
            raise
        try:
            program = _fitted(striped, board, ram_budget, exact, context)
        except DoesNotFit:
            raise error from None  # it names a layer that the user knows
    more = _macs(striped) - _macs(graph)
    context.note(
        f"layers of high resolution run in stripes of rows, to fit the RAM of {board.name}: "
        f"{more:,} MACs more"
    )
    return program


def _striped(graph: Graph, context: PassContext) -> Graph:
    with context.step("stripe_rows"):
        return stripe_rows(graph)


def _fitted(
    graph: Graph, board: Board, ram_budget: int | None, exact: bool, context: PassContext
) -> Program:
    training = bool(graph.updates)
    other = board.stack_bytes + (StateBlock.of(graph).bytes if training else 0)
    budget = ram_budget - other if ram_budget else None
    inference = inference_graph(graph) if training else graph
    library = kernel_library(graph, board)
    program = schedule(inference, board, budget, exact, context, library=library)
    if training:
        train = schedule(graph, board, budget, exact, context, library=library)
        program = replace(program, train=train)
    if ram_budget:
        for part in (program, program.train):
            if part is not None:
                fit(part.plan, ram_budget, other_ram_bytes=other, board=board.name)
    return program


def _macs(graph: Graph) -> int:
    return sum(n.op.macs(n) for n in graph.nodes)

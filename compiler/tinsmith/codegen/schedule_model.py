"""The program of a model under a board's RAM: plain, or in stripes of rows where that helps."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Literal

from ..errors import CompileError, DoesNotFit
from ..ir.graph import Graph
from ..kernels.select import FREE, SCRATCH_PRICES, SMALL_FLASH, Prices
from ..machine.board import Board
from ..pass_manager import PassContext
from ..plan.fit import fit
from ..plan.stripes import stripe_rows
from .program import Program
from .schedule import kernel_library, schedule
from .state import StateBlock
from .training import inference_graph

Objective = Literal["instructions", "flash", "ram"]
OBJECTIVES: tuple[Objective, ...] = ("instructions", "flash", "ram")


def schedule_model(
    graph: Graph,
    board: Board,
    ram_budget: int | None,
    exact: bool,
    context: PassContext,
    optimize: Objective = "instructions",
) -> Program:
    """The program of a graph; of a training graph both programs, always in stripes.

    optimize: "flash" keeps weights at about their int8 size. "ram" takes the smallest arena: layers
    of high resolution in stripes, and kernels with less scratch. The others do so only where the
    model does not fit otherwise; stripes then become a note. ram_budget: bytes; None: any.

    Raises DoesNotFit, CompileError for an unknown objective.
    """
    if optimize not in OBJECTIVES:
        raise CompileError(
            f"cannot optimise for {optimize!r}", expected=f"one of {', '.join(OBJECTIVES)}"
        )
    if optimize == "ram":
        return _smallest(_striped(graph, context), board, ram_budget, exact, context)
    prices = SMALL_FLASH if optimize == "flash" else FREE
    if graph.updates:
        return _fitted(_striped(graph, context), board, ram_budget, exact, context, prices)
    try:
        return _fitted(graph, board, ram_budget, exact, context, prices)
    except DoesNotFit as error:
        striped = _striped(graph, context)
        if striped is graph:
            raise
        try:
            program = _fitted(striped, board, ram_budget, exact, context, prices)
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


def _smallest(
    graph: Graph, board: Board, ram_budget: int | None, exact: bool, context: PassContext
) -> Program:
    """Of the programs with dearer and dearer scratch, the fastest of those with the least arena."""
    notes = list(context.notes)
    best: tuple[tuple[int, int], Program, list[str]] | None = None
    for rank, price in enumerate((0.0, *SCRATCH_PRICES)):
        context.notes[:] = notes
        with suppress(DoesNotFit):
            program = _scheduled(graph, board, ram_budget, exact, context, Prices(scratch=price))
            parts = [p.plan.arena_bytes for p in (program, program.train) if p is not None]
            key = (max(parts), rank)
            if best is None or key < best[0]:
                best = (key, program, list(context.notes))
    if best is None:
        context.notes[:] = notes
        return _scheduled(graph, board, ram_budget, exact, context, FREE)  # says what is too large
    context.notes[:] = best[2]
    return best[1]


def _fitted(
    graph: Graph,
    board: Board,
    ram_budget: int | None,
    exact: bool,
    context: PassContext,
    prices: Prices,
) -> Program:
    """With the fastest kernels, or where they do not fit with those that need less scratch."""
    notes = list(context.notes)
    try:
        return _scheduled(graph, board, ram_budget, exact, context, prices)
    except DoesNotFit as error:
        for price in SCRATCH_PRICES:
            context.notes[:] = notes  # without those on kernels that were given up
            lean = replace(prices, scratch=price)
            with suppress(DoesNotFit):
                return _scheduled(graph, board, ram_budget, exact, context, lean)
        context.notes[:] = notes
        raise error


def _scheduled(
    graph: Graph,
    board: Board,
    ram_budget: int | None,
    exact: bool,
    context: PassContext,
    prices: Prices,
) -> Program:
    training = bool(graph.updates)
    other = board.stack_bytes + (StateBlock.of(graph).bytes if training else 0)
    budget = ram_budget - other if ram_budget else None
    inference = inference_graph(graph) if training else graph
    library = kernel_library(graph, board)
    program = schedule(inference, board, budget, exact, context, library=library, prices=prices)
    if training:
        cuda = program.cuda
        train = schedule(
            graph, board, budget, exact, context, library=library, cuda=cuda, prices=prices
        )
        program = replace(program, train=train)
    if ram_budget:
        for part in (program, program.train):
            if part is not None:
                fit(part.plan, ram_budget, other_ram_bytes=other, board=board.name)
    return program


def _macs(graph: Graph) -> int:
    return sum(n.op.macs(n) for n in graph.nodes)

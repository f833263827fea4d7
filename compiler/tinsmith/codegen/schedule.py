"""From a graph to what the generator needs: kernels, order, arena."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..errors import CompileError
from ..ir.dtypes import DType
from ..ir.graph import Graph, Node, Stage, Value
from ..ir.verify import verify
from ..kernels import registry
from ..kernels.kernel import Kernel, KernelCall
from ..kernels.select import FREE, Prices, generic_kernels, select_kernels
from ..machine.board import Board
from ..pass_manager import PassContext
from ..plan.arena import plan_arena
from ..plan.check import check_plan
from ..plan.order import order_nodes
from ..tvm_backend.cuda.kernels import CudaLibrary, cuda_kernels
from ..tvm_backend.cuda.rule import rule_for
from ..tvm_backend.kernels import (
    KernelLibrary,
    stored_with_offset,
    tvm_kernels,
    without_rule,
)
from .c_text import c_model_name
from .program import Program

CODE_BYTES = 96 * 1024  # of a board's flash that constants leave to the program


def schedule(
    graph: Graph,
    board: Board,
    arena_budget: int | None,
    exact: bool,
    context: PassContext,
    *,
    enough: int = 0,
    room: int | None = None,
    library: KernelLibrary | None = None,
    cuda: CudaLibrary | None = None,
    prices: Prices = FREE,
) -> Program:
    """Kernels, order and arena: the PLANNED graph with all that the generator needs.

    enough, room: as `plan_arena` takes them. library, cuda: where TVM's kernels for this board go,
    to share it with another program; None: one of its own. prices: of memory, for choosing kernels;
    flash gets one of its own where the board has too little for the fastest kernels.
    """
    with context.step("select_kernels"):
        library = library or kernel_library(graph, board)
        pool, stored = registry(), frozenset[Value]()
        if library is not None:
            stored = stored_with_offset(graph, library.isa)
            pool = (*tvm_kernels(library, stored), *pool)
        cuda = cuda or cuda_library(graph, board)
        if cuda is not None:
            pool = tuple(cuda_kernels())
            _check_rules(graph, board)
        calls = {c.node.name: c for c in _chosen(graph, board, pool, prices)}
    notes = generic_kernels(list(calls.values()), board.target)
    if library is not None and not graph.updates:  # of what learns much is portable
        notes = without_rule(list(calls.values()))
    for text in notes:
        context.note(text)

    def scratch_of(node: Node) -> int:
        return calls[node.name].scratch_bytes if node.name in calls else 0

    def lead_of(node: Node, index: int) -> int | None:
        return calls[node.name].kernel.lead_bytes(node, index) if node.name in calls else None

    with context.step("order_nodes"):
        graph = order_nodes(graph, scratch_of, lead_of)
    verify(graph, "after order_nodes")
    ordered = [calls[n.name] for n in graph.nodes if n.name in calls]
    with context.step("plan_arena"):
        alignment = board.target.arena_alignment
        plan = plan_arena(
            graph, ordered, alignment, arena_budget, exact=exact, enough=enough, room=room
        )
    with context.step("check_plan"):
        check_plan(graph, ordered, plan)
    graph = replace(graph, stage=Stage.PLANNED)
    verify(graph, "after plan_arena")
    if (
        not board.is_host
        and "fpu" not in board.target.features
        and any(c.kernel.dtype is DType.FLOAT32 for c in ordered)
    ):
        context.note(f"target {board.target.name} has no FPU: float32 runs in software, slowly")
    return Program(graph, ordered, plan, library=library, stored=stored, cuda=cuda)


def _chosen(graph: Graph, board: Board, pool: Sequence[Kernel], prices: Prices) -> list[KernelCall]:
    room = board.flash_bytes - CODE_BYTES if board.flash_bytes else None
    return select_kernels(graph, board.target, pool, prices=prices, room=room)


def kernel_library(graph: Graph, board: Board) -> KernelLibrary | None:
    """An empty library for a model on a board whose kernels come from TVM, else None."""
    isa = board.target.tvm
    return KernelLibrary(c_model_name(graph.name), isa) if isa is not None else None


def _check_rules(graph: Graph, board: Board) -> None:
    """Raises CompileError for a graph that learns by a scheme that a GPU has no rules for."""
    for node in graph.nodes if graph.updates else ():
        if not node.op.is_view and rule_for(node, graph) is None:
            raise CompileError(
                f"board {board.name} has no {node.op.name} kernel for this scheme",
                node=str(node.origin),
                expected='an int8 model, rule "residual8" or "nearest", gradients "int8", batch 1, '
                "momentum 0",
                hint="change the scheme, or take linux-x86_64 or a microcontroller",
                where="select_kernels",
            )


def cuda_library(graph: Graph, board: Board) -> CudaLibrary | None:
    """An empty library for a model on a board with a GPU, else None.

    Raises CompileError for a graph that is divided.
    """
    if not board.target.cuda:
        return None
    if graph.stage is Stage.PARTITIONED:
        raise CompileError(
            f"board {board.name} takes no protected model",
            hint="take linux-x86_64 or a microcontroller",
        )
    return CudaLibrary(board.target.cuda)

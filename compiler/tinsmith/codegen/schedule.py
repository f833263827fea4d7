"""From a graph to what the generator needs: kernels, order, arena."""

from __future__ import annotations

from dataclasses import replace

from ..ir.dtypes import DType
from ..ir.graph import Graph, Node, Stage
from ..ir.verify import verify
from ..kernels.select import generic_kernels
from ..machine.board import Board
from ..pass_manager import PassContext
from ..plan.arena import plan_arena
from ..plan.check import check_plan
from ..plan.order import order_nodes
from ..tvm_backend.cuda.kernels import CudaLibrary
from ..tvm_backend.kernels import KernelLibrary, without_rule
from .choices import Choices
from .program import Program


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
    choices: Choices | None = None,
    limit: int | None = None,
) -> Program:
    """Kernels, order and arena: the PLANNED graph with all that the generator needs.

    enough, room: as `plan_arena` takes them. library, cuda: where TVM's kernels for this board go,
    to share it with another program; None: one of its own. choices: of kernels for this graph and
    board; None: for the fewest instructions. limit: as `Choices.select` takes it.
    """
    with context.step("select_kernels"):
        choices = choices or Choices.of(graph, board, library=library, cuda=cuda)
        selection = choices.select(limit)
        calls = {c.node.name: c for c in selection.calls}
    notes = generic_kernels(list(calls.values()), board.target)
    if choices.library is not None and not graph.updates:  # of what learns much is portable
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
    return Program(
        graph,
        ordered,
        plan,
        library=choices.library,
        stored=choices.stored,
        cuda=choices.cuda,
        selection=selection,
    )

"""What the images of both worlds compute: the partition of a model, scheduled for a board."""

from __future__ import annotations

from dataclasses import replace

from ..codegen.program import Program
from ..codegen.schedule_model import schedule_part
from ..codegen.training import inference_graph
from ..ir.graph import Graph, Stage
from ..kernels.aim import BY_INSTRUCTIONS, Aim
from ..machine.board import Board
from ..pass_manager import PassContext
from .learning import Learning, LockedLearning, cut_for, lock_learning
from .partition import Partition, known_mode, partition


def divide_model(
    graph: Graph,
    mode: str,
    key: bytes,
    cut: str | None,
    learning: Learning | None,
    context: PassContext,
) -> tuple[Partition, LockedLearning | None]:
    """The worlds of a model, and of one that learns its training graphs. key: the device's.

    Raises CompileError as `partition` and `lock_learning`.
    """
    if learning is None:
        graph = replace(graph, stage=Stage.QUANTIZED)
        return partition(graph, mode, key, cut), None
    if cut is None:
        cut, note = cut_for(learning, known_mode(mode))
        if note:
            context.note(note)
    divided = partition(learning.base, mode, key, cut)
    return divided, lock_learning(learning, divided, key, cut)


def nonsecure_program(
    graph: Graph, locked: LockedLearning | None, board: Board, context: PassContext, aim: Aim
) -> Program:
    """What the non-secure image computes; of a model that learns both programs."""
    if locked is None:
        return schedule_part(graph, board, context, aim)
    program = schedule_part(inference_graph(locked.graph), board, context, aim)
    train = schedule_part(locked.graph, board, context, aim, library=program.library)
    return replace(program, train=train)


def secure_programs(
    divided: Partition,
    locked: LockedLearning | None,
    board: Board,
    context: PassContext,
    aim: Aim = BY_INSTRUCTIONS,
) -> list[Program]:
    """One per call of an inference; the second call of a step is the training half of the first.

    In portable C on every board: what the secure world trusts stays small.
    """
    board = board.portable
    if locked is None or locked.forward is None or locked.backward is None:
        return [schedule_part(part, board, context, aim) for part in divided.secure]
    program = schedule_part(locked.forward, board, context, aim)
    return [replace(program, train=schedule_part(locked.backward, board, context, aim))]

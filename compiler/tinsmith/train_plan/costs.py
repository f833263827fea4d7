"""What a scheme costs on a board, by the compiler's own account: kernels, plan, state."""

from __future__ import annotations

from dataclasses import dataclass

from ..codegen.program import Program
from ..codegen.schedule import schedule
from ..codegen.state import StateBlock
from ..codegen.training import inference_graph
from ..errors import CompileError
from ..ir.graph import Graph
from ..machine.board import Board
from ..pass_manager import PassContext
from ..plan.stripes import stripe_rows
from ..train.scheme import Scheme
from .fine_tune import training_graph


@dataclass(frozen=True)
class Cost:
    """Bytes of the arena that inference and training share, of the state, of the stack; estimated
    instructions of one training step."""

    arena_bytes: int
    state_bytes: int
    stack_bytes: int
    instructions: int

    @property
    def ram_bytes(self) -> int:
        return self.arena_bytes + self.state_bytes + self.stack_bytes


@dataclass(frozen=True)
class Budget:
    """ram_bytes: as `compile --ram`. instructions: of a training step; None: no limit."""

    ram_bytes: int
    instructions: int | None = None

    def admits(self, cost: Cost) -> bool:
        return cost.ram_bytes <= self.ram_bytes and (
            self.instructions is None or cost.instructions <= self.instructions
        )


def budget_of(board: Board, ram_bytes: int, seconds: float | None) -> Budget:
    """seconds: of a training step at the board's clock, an instruction a cycle.

    Raises CompileError when the board does not say its clock.
    """
    if seconds is None:
        return Budget(ram_bytes)
    if not board.clock_hz:
        raise CompileError(
            f"board {board.name} has no clock, so a time budget means nothing",
            expected="a board with clock_hz in its board.toml",
            hint="leave out --time-budget",
        )
    return Budget(ram_bytes, int(seconds * board.clock_hz))


class Planner:
    """Costs of schemes of one model on one board; each is planned once.

    Attributes:
        planned: how many schemes were planned.
    """

    def __init__(self, quantized: Graph, board: Board, budget: Budget) -> None:
        self.quantized, self.board, self.budget = quantized, board, budget
        self.planned = 0
        self._known: dict[Scheme, Cost] = {}
        self._inference_arena = 0  # of the first scheme; the others' is laid out alike

    def cost(self, scheme: Scheme) -> Cost:
        """Raises CompileError for a scheme that does not fit the model, or without a kernel."""
        if scheme not in self._known:
            self._known[scheme] = self._plan(training_graph(self.quantized, scheme))
            self.planned += 1
        return self._known[scheme]

    def state_bytes(self, scheme: Scheme) -> int:
        """Of the weights and biases that learn and of what the rule keeps; plans nothing."""
        return StateBlock.of(training_graph(self.quantized, scheme)).bytes

    def _plan(self, graph: Graph) -> Cost:
        graph = stripe_rows(graph)
        state = StateBlock.of(graph).bytes
        room = self.budget.ram_bytes - self.board.stack_bytes - state
        inference = self._schedule(inference_graph(graph), room)
        arena = inference.plan.arena_bytes
        self._inference_arena = self._inference_arena or arena
        training = self._schedule(graph, room, arena)
        runs = (c for c in training.calls if c.node.name not in training.plan.in_place)
        return Cost(
            arena_bytes=max(training.plan.arena_bytes, arena),
            state_bytes=state,
            stack_bytes=self.board.stack_bytes,
            instructions=round(sum(c.kernel.instructions(c.node, training.graph) for c in runs)),
        )

    def _schedule(self, graph: Graph, room: int, other: int = 0) -> Program:
        """The planner tries harder for a budget, which takes long: only where that may help.

        other: bytes that the arena takes in any case; it need not be smaller, nor smaller than what
        inference was seen to take.
        """
        enough = max(other, self._inference_arena)
        found = schedule(graph, self.board, None, False, PassContext(), enough=enough)
        if found.plan.lower_bound_bytes <= room < found.plan.arena_bytes:
            return schedule(graph, self.board, room, False, PassContext())
        return found

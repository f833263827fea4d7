"""What a scheme costs on a board, by the compiler's own account: kernels, plan, state."""

from __future__ import annotations

from dataclasses import dataclass

from ..codegen.choices import Choices
from ..codegen.program import Program
from ..codegen.schedule import schedule
from ..codegen.state import StateBlock
from ..codegen.training import inference_graph
from ..errors import CompileError
from ..ir.graph import Graph
from ..kernels.aim import BY_INSTRUCTIONS, Aim
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


@dataclass(frozen=True)
class _Draft:
    """cost: of a plan that may not be the smallest. least: bytes of RAM that every plan takes."""

    cost: Cost
    least: int

    def answers(self, budget: Budget) -> bool:
        return budget.admits(self.cost) or self.least > budget.ram_bytes


class Planner:
    """Costs of schemes of one model on one board; each is planned once.

    Attributes:
        planned: how many plans were made.
    """

    def __init__(
        self, quantized: Graph, board: Board, budget: Budget, aim: Aim = BY_INSTRUCTIONS
    ) -> None:
        self.quantized, self.board, self.budget, self.aim = quantized, board, budget, aim
        self.planned = 0
        self._known: dict[Scheme, Cost] = {}
        self._drafts: dict[Scheme, _Draft] = {}
        self._inference_arena = 0  # of the first scheme; the others' is laid out alike

    def cost(self, scheme: Scheme) -> Cost:
        """Raises CompileError for a scheme that does not fit the model, or without a kernel."""
        if scheme not in self._known:
            self._known[scheme] = self._plan(scheme, None).cost
        return self._known[scheme]

    def admits(self, scheme: Scheme, budget: Budget | None = None) -> bool:
        """Whether a scheme fits the budget, by default the planner's own.

        Quicker than `cost`, as its plan need not be the smallest. Raises as `cost`.
        """
        limit = budget or self.budget
        if scheme in self._known:
            return limit.admits(self._known[scheme])
        return limit.admits(self._draft(scheme, limit).cost)

    def least_bytes(self, scheme: Scheme) -> int:
        """Bytes of RAM that every plan of a scheme takes. Raises as `cost`."""
        return self._draft(scheme, self.budget).least

    def state_bytes(self, scheme: Scheme) -> int:
        """Of the weights and biases that learn and of what the rule keeps; plans nothing."""
        return StateBlock.of(training_graph(self.quantized, scheme)).bytes

    def _draft(self, scheme: Scheme, budget: Budget) -> _Draft:
        """A plan good enough to say whether the budget admits the scheme."""
        draft = self._drafts.get(scheme)
        if draft is None or not draft.answers(budget):
            draft = self._drafts[scheme] = self._plan(scheme, budget.ram_bytes)
        return draft

    def _plan(self, scheme: Scheme, ram: int | None) -> _Draft:
        """ram: the only question is whether it fits in so many bytes."""
        self.planned += 1
        graph = stripe_rows(training_graph(self.quantized, scheme))
        state = StateBlock.of(graph).bytes
        besides = self.board.stack_bytes + state
        room = None if ram is None else max(ram - besides, 0)
        inference = self._schedule(inference_graph(graph), self._inference_arena, room).plan
        if ram is None:
            self._inference_arena = self._inference_arena or inference.arena_bytes
        enough = max(inference.arena_bytes, self._inference_arena)
        training = self._schedule(graph, enough, room)
        chosen = training.selection.chosen if training.selection else ()
        runs = (c for c in chosen if c.node.name not in training.plan.in_place)
        cost = Cost(
            arena_bytes=max(training.plan.arena_bytes, inference.arena_bytes),
            state_bytes=state,
            stack_bytes=self.board.stack_bytes,
            instructions=round(sum(c.cost.instructions for c in runs)),
        )
        least = max(training.plan.lower_bound_bytes, inference.lower_bound_bytes)
        return _Draft(cost, besides + least)

    def _schedule(self, graph: Graph, enough: int, room: int | None) -> Program:
        """enough: bytes of an arena that need not be smaller."""
        choices = Choices.of(graph, self.board, self.aim)
        return schedule(
            graph,
            self.board,
            None,
            False,
            PassContext(),
            enough=enough,
            room=room,
            choices=choices,
            limit=choices.least_bytes if self.aim.objective == "ram" else None,
        )

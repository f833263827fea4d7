"""The program of a model under a board's RAM: plain, or in stripes of rows where that helps.

Kernels are chosen for what is live at each step; only a plan of the arena says whether that can be
laid out. Where it cannot, the limit on live bytes is lowered and the choice is made again.
"""

from __future__ import annotations

import heapq
import math
from contextlib import suppress
from dataclasses import dataclass, replace

from ..errors import DoesNotFit
from ..ir.graph import Graph
from ..kernels.aim import BY_INSTRUCTIONS, Aim
from ..kernels.overrides import check_overrides
from ..machine.board import Board
from ..pass_manager import PassContext
from ..plan.fit import fit
from ..plan.stripes import stripe_rows
from ..tvm_backend.kernels import KernelLibrary
from .choices import Choices
from .program import Program
from .schedule import schedule
from .state import StateBlock
from .training import inference_graph

CUTS = 6  # limits on live bytes that are tried, until the arena fits
STRIPES_GAIN = 1.1  # faster than without, so that their code is worth its flash
ARENA_WEIGHT = 10  # --optimize ram: a per cent of the arena is worth as many of time
_PLANNED = 3  # the stage of a limit that has a plan


def schedule_model(
    graph: Graph,
    board: Board,
    ram_budget: int | None,
    exact: bool,
    context: PassContext,
    aim: Aim = BY_INSTRUCTIONS,
) -> Program:
    """The program of a graph; of a training graph both programs, always in stripes.

    aim: "ram" takes the smallest arena, a per cent of which is worth ten of time: layers of high
    resolution in stripes, kernels with little scratch. The others do so only where the model does
    not fit otherwise; stripes then become a note. ram_budget: bytes; None: any.

    Raises DoesNotFit, CompileError for an objective that is unknown, or not known of this core.
    """
    aim.check(board.target)
    if aim.objective != "ram" and not graph.updates:
        with suppress(DoesNotFit):
            return _Attempt(graph, board, ram_budget, exact, context, aim).program(cuts=0)
    striped = _striped(graph, context)
    forms = [striped] if graph.updates or striped is graph else [graph, striped]
    notes = list(context.notes)
    found: list[tuple[float, Program, list[str]]] = []
    errors: list[DoesNotFit] = []
    for form in forms:
        context.notes[:] = notes
        try:
            program = _Attempt(form, board, ram_budget, exact, context, aim).program()
        except DoesNotFit as error:
            errors.append(error)
            continue
        worth = _worth(program, aim)
        if form is not graph and aim.objective != "ram" and not graph.updates:
            worth *= 1.0 if aim.price else STRIPES_GAIN
            context.note(
                f"layers of high resolution run in stripes of rows, to fit the RAM of {board.name}"
            )
        found.append((worth, program, list(context.notes)))
    if not found:
        raise errors[0]  # it names a layer that the user knows
    _, program, context.notes[:] = min(found, key=lambda made: made[0])
    return program


def schedule_part(
    graph: Graph,
    board: Board,
    context: PassContext,
    aim: Aim,
    *,
    library: KernelLibrary | None = None,
) -> Program:
    """One program of several on a board, whose memory they share: as it is, without a budget.

    library: where TVM's kernels for this board go. Raises as `schedule_model`.
    """
    choices = Choices.of(graph, board, aim, library=library)
    return _Attempt(graph, board, None, False, context, aim).planned(choices, None, 0)


def _striped(graph: Graph, context: PassContext) -> Graph:
    with context.step("stripe_rows"):
        return stripe_rows(graph)


@dataclass(frozen=True)
class _Attempt:
    """To schedule one form of a graph."""

    graph: Graph
    board: Board
    ram_budget: int | None
    exact: bool
    context: PassContext
    aim: Aim

    def program(self, cuts: int = CUTS) -> Program:
        """Raises DoesNotFit. cuts: how many lower limits are tried."""
        training = bool(self.graph.updates)
        state = StateBlock.of(self.graph).bytes if training else 0
        other = self.board.stack_bytes + state
        room = self.ram_budget - other if self.ram_budget else None
        inference = Choices.of(
            inference_graph(self.graph) if training else self.graph, self.board, self.aim
        )
        check_overrides(inference.candidates, self.aim)
        if not training:
            program = self.planned(inference, room, cuts)
        else:
            choices = Choices.of(
                self.graph, self.board, self.aim, library=inference.library, cuda=inference.cuda
            )
            train = self.planned(choices, room, cuts)
            if self.aim.objective == "ram":  # one arena serves both
                room = min(room or train.arena_bytes, train.arena_bytes)
            program = replace(self._fitted(inference, room, cuts), train=train)
        for part in (program, program.train):
            if part is not None and self.ram_budget:
                fit(part.plan, self.ram_budget, other_ram_bytes=other, board=self.board.name)
        return program

    def planned(self, choices: Choices, room: int | None, cuts: int) -> Program:
        """One program. room: bytes for its arena; None: any."""
        if self.aim.objective == "ram":
            return self._smallest(choices, room)
        return self._fitted(choices, room, cuts)

    def _fitted(self, choices: Choices, room: int | None, cuts: int) -> Program:
        """With the best kernels whose arena has at most `room` bytes, else with the least."""
        notes = list(self.context.notes)
        program = self._scheduled(choices, room, None)
        found = [(program.plan.arena_bytes, 0, program, list(self.context.notes))]
        if room is not None and found[0][0] > room:
            limit = room
            for cut in range(1, cuts + 1):
                self.context.notes[:] = notes  # without those on kernels that were given up
                program = self._scheduled(choices, room, limit)
                found.append((program.plan.arena_bytes, cut, program, list(self.context.notes)))
                if found[-1][0] <= room or not limit:
                    break
                # As much lower as the arena is too large; at last what needs least everywhere.
                limit -= max(found[-1][0] - room, 1)
                limit = limit if limit >= choices.least_bytes and cut < cuts - 1 else 0
        _, _, program, self.context.notes[:] = min(found, key=lambda f: (_above(f[0], room), f[1]))
        return program

    def _smallest(self, choices: Choices, room: int | None) -> Program:
        """The plan with the least time · arena^10 over all limits, best promise first.

        What a limit promises is what its kernels need at the worst step, then the lower bound of
        their plan, then the plan.
        """
        notes = list(self.context.notes)
        least, value = choices.least_bytes, choices.select().value
        queue = [(_weighed(max(limit, least), value), 0, limit) for limit in choices.limits()]
        best: tuple[float, int] | None = None
        first: tuple[int, Program, list[str]] | None = None  # planned as well as it can be
        tried = 0
        while tried < CUTS:
            _, stage, limit = heapq.heappop(queue)
            if stage == _PLANNED:
                break
            selection = choices.select(limit)
            arena = selection.live_bytes if stage == 0 else choices.bound(selection)
            if stage == _PLANNED - 1:
                self.context.notes[:] = notes
                enough = None if best is None else _arena_of(best[0], selection.value)
                program = self._scheduled(choices, room, limit, enough)
                arena = program.plan.arena_bytes
                first = first or (limit, program, list(self.context.notes))
                worth = _weighed(arena, selection.value)
                best = min(best or (worth, limit), (worth, limit))
                tried += 1
            heapq.heappush(queue, (_weighed(arena, selection.value), stage + 1, limit))
        assert best is not None
        assert first is not None
        if best[1] == first[0]:
            self.context.notes[:] = first[2]
            return first[1]
        self.context.notes[:] = notes
        return self._scheduled(choices, room, best[1])

    def _scheduled(
        self, choices: Choices, budget: int | None, limit: int | None, room: int | None = None
    ) -> Program:
        """room: the only question is whether the arena has at most so many bytes."""
        context = self.context
        return schedule(
            choices.graph, self.board, budget, self.exact, context,
            room=room, choices=choices, limit=limit,
        )  # fmt: skip


def _worth(program: Program, aim: Aim) -> float:
    """The lower, the better."""
    if program.selection is None:
        return 0.0
    if aim.objective == "ram":
        return _weighed(program.plan.arena_bytes, program.selection.value)
    return program.selection.weight


def _weighed(arena: int, value: float) -> float:
    return math.log(max(value, 1.0)) + ARENA_WEIGHT * math.log(max(arena, 1))


def _arena_of(worth: float, value: float) -> int:
    """The largest arena with which a program of this value is not worse."""
    return int(math.exp((worth - math.log(max(value, 1.0))) / ARENA_WEIGHT))


def _above(arena: int, room: int | None) -> int:
    return max(0, arena - room) if room is not None else 0

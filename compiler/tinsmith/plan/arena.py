"""Offsets of all buffers in one arena: first fit in several orders, improved by local search.

The search is seeded and bounded by a number of placements, not by time: the same graph gives the
same plan on every machine. It stops as soon as the lower bound is reached, which proves the plan
optimal.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import InternalError
from ..ir.graph import Graph, Node
from ..kernels.kernel import KernelCall
from .bounds import Bounds, lower_bounds
from .constraints import Problem, build_problem
from .exact import solve_exact
from .live_ranges import (
    LeadOf,
    ScratchOf,
    concats_in_place,
    is_view,
    legal_overlaps,
    live_buffers,
)
from .model import Buffer, MemoryPlan, Placed

ROUNDS = 200  # of local search before it starts again
ENOUGH = 1.02  # of a lower bound: another way to lay out is not tried for less
PLACEMENTS = 1500  # tried by the local search; a budget that is not met gets four times as many

Offsets = tuple[int, ...]


@dataclass(frozen=True)
class _Result:
    concats: frozenset[str]
    buffers: tuple[Buffer, ...]
    problem: Problem
    offsets: Offsets
    arena: int
    bounds: Bounds


def plan_arena(
    graph: Graph,
    calls: Sequence[KernelCall],
    alignment: int,
    budget: int | None = None,
    *,
    exact: bool = False,
    time_limit_s: float = 60.0,
    enough: int = 0,
    room: int | None = None,
) -> MemoryPlan:
    """Place every graph input, node output and scratch in one arena, in the order of the graph's
    nodes.

    calls: the kernel of every node but the views. budget: bytes; the search tries harder while the
    plan exceeds it (`plan/fit.py` judges the result). exact: let CP-SAT improve the plan and prove
    it, for at most `time_limit_s` seconds of its own; raises MissingTool without OR-tools. enough:
    bytes below which a smaller arena is of no use: the search stops there. room: the only question
    is whether the arena fits in so many bytes: no search for less, and none that cannot succeed;
    `enough` does not count.
    """
    lead_of, scratch_of, scratch_lead_of = _facts(graph, calls)
    candidates = [frozenset[str]()]
    if concats := concats_in_place(graph, alignment):
        candidates.insert(0, concats)
    results: list[_Result] = []
    for concat in candidates:
        buffers = live_buffers(graph, scratch_of, concat)
        overlaps = legal_overlaps(graph, buffers, lead_of, scratch_lead_of)
        bounds = lower_bounds(buffers, overlaps, len(graph.nodes), alignment)
        if results and bounds.arena * ENOUGH >= results[0].arena:
            continue  # it could hardly be better
        problem = build_problem(buffers, overlaps, alignment)
        stop = max(bounds.arena, enough if room is None else room)
        tries = PLACEMENTS if room is None or bounds.arena <= room else 0
        offsets, arena = _search(problem, stop, budget, tries)
        results.append(_Result(concat, buffers, problem, offsets, arena, bounds))
    best = min(results, key=lambda r: r.arena)
    offsets, arena, bound = best.offsets, best.arena, best.bounds.arena
    if exact and arena > bound:
        offsets, arena, bound = solve_exact(best.problem, offsets, bound, time_limit_s)
    bound = min(bound, *(r.bounds.arena for r in results if r is not best), arena)
    return _plan(graph, best, offsets, arena, bound)


def _facts(graph: Graph, calls: Sequence[KernelCall]) -> tuple[LeadOf, ScratchOf, LeadOf]:
    by_name = {c.node.name: c for c in calls}
    for node in graph.nodes:
        if node.name not in by_name and not node.op.is_view:
            raise InternalError("a node has no kernel", node=str(node.origin), where="plan_arena")

    def lead_of(node: Node, index: int) -> int | None:
        call = by_name.get(node.name)
        return call.kernel.lead_bytes(node, index) if call else None

    def scratch_of(node: Node) -> int:
        call = by_name.get(node.name)
        return call.scratch_bytes if call else 0

    def scratch_lead_of(node: Node, index: int) -> int | None:
        call = by_name.get(node.name)
        return call.kernel.scratch_lead_bytes(node, index) if call else None

    return lead_of, scratch_of, scratch_lead_of


def _plan(graph: Graph, best: _Result, offsets: Offsets, arena: int, bound: int) -> MemoryPlan:
    at = [offsets[c] + s for c, s in zip(best.problem.cluster, best.problem.start, strict=True)]
    placed = tuple(Placed(b, o) for b, o in zip(best.buffers, at, strict=True))
    views = {n.name for n in graph.nodes if is_view(graph, n)}
    peak = min(max(best.bounds.peak_step, 0), len(graph.nodes) - 1)
    return MemoryPlan(
        offsets={v: p.offset for p in placed for v in p.buffer.values},
        scratch={p.buffer.name: p.offset for p in placed if p.buffer.is_scratch},
        arena_bytes=arena,
        lower_bound_bytes=bound,
        alignment=best.problem.alignment,
        order=tuple(n.name for n in graph.nodes),
        proved_optimal=arena == bound,
        peak_node=graph.nodes[peak].name if graph.nodes else "",
        peak_origin=str(graph.nodes[peak].origin) if graph.nodes else "",
        in_place=best.concats | views,
        placed=placed,
    )


def first_fit(problem: Problem, order: Sequence[int]) -> tuple[Offsets, int]:
    """Place the clusters in the given order, each at the lowest offset allowed; offsets and arena
    bytes."""
    offsets = [-1] * len(problem.bytes)
    top = 0
    alignment = problem.alignment
    for i in order:
        blocked = sorted(
            (placed + low, placed + high)
            for other, low, high in problem.forbidden[i]
            if (placed := offsets[other]) >= 0
        )
        at = 0
        for low, high in blocked:
            if low >= at:
                break
            if at < high:
                at = -(-high // alignment) * alignment
        offsets[i] = at
        top = max(top, at + problem.bytes[i])
    return tuple(offsets), top


def _search(
    problem: Problem, bound: int, budget: int | None, placements: int
) -> tuple[Offsets, int]:
    best: tuple[Offsets, int] | None = None
    best_order: list[int] = []
    for order in _starting_orders(problem):
        found = first_fit(problem, order)
        if best is None or found[1] < best[1]:
            best, best_order = found, order
        if best[1] <= bound:
            return best
    assert best is not None
    for phase in range(2):
        best, best_order = _improve(
            problem, bound, best, best_order, placements=placements, seed=phase
        )
        if best[1] <= bound or budget is None or best[1] <= budget:
            break
        placements *= 4
    return best


def _starting_orders(problem: Problem) -> list[list[int]]:
    """By size, by bytes of neighbours in time, by size × lifetime, by lifetime, in time, against
    time.

    Against time lays an output down before its input, so that the input can start a lead above it.
    """
    size, life = problem.bytes, problem.lifetime
    degree = [sum(size[f.other] for f in fs) for fs in problem.forbidden]
    every = list(range(len(size)))
    return [
        sorted(every, key=lambda i: (-size[i], i)),
        sorted(every, key=lambda i: (-size[i], -i)),
        sorted(every, key=lambda i: (-degree[i] - size[i], -i)),
        sorted(every, key=lambda i: (-size[i] * life[i], -i)),
        sorted(every, key=lambda i: (-life[i], -size[i], i)),
        every,
        every[::-1],
    ]


def _improve(
    problem: Problem,
    bound: int,
    best: tuple[Offsets, int],
    best_order: list[int],
    *,
    placements: int,
    seed: int,
) -> tuple[tuple[Offsets, int], list[int]]:
    """Move a cluster that touches the top, or a neighbour of one, to another place in the order.

    One in ten moves is of any cluster, and one in ten worse orders is kept: without both, some
    small problems get stuck. Every `ROUNDS` moves it goes back to the best, or starts at random.
    """
    rng = random.Random(seed)
    every = list(range(len(problem.bytes)))
    order, current = list(best_order), best
    for number in range(placements if len(every) > 1 else 0):
        if number % ROUNDS == ROUNDS - 1:
            order, current = list(best_order), best
            if number // ROUNDS % 2:
                order = rng.sample(every, len(every))
                current = first_fit(problem, order)
        offsets, top = current
        moved = rng.choice([i for i in every if offsets[i] + problem.bytes[i] == top])
        draw = rng.random()
        if draw < 0.5 and problem.forbidden[moved]:
            moved = rng.choice(problem.forbidden[moved]).other
        elif draw > 0.9:
            moved = rng.choice(every)
        trial = [i for i in order if i != moved]
        trial.insert(rng.randrange(len(every)), moved)
        found = first_fit(problem, trial)
        if found[1] <= current[1] or rng.random() < 0.1:
            order, current = trial, found
        if current[1] < best[1]:
            best, best_order = current, list(order)
            if best[1] <= bound:
                break
    return best, best_order

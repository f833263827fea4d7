"""Offsets of all buffers in one arena: found by search, and proved the smallest where possible.

The lower bound, once reached, is a proof; above it `plan/prove.py` tries all that is left. Both are
limited by counts, not by time: the same graph gives the same plan on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..errors import InternalError
from ..ir.graph import Graph, Node
from ..kernels.kernel import KernelCall
from .bounds import Bounds, lower_bounds
from .chain import STRIPES
from .constraints import Problem, build_problem
from .exact import solve_exact
from .live_ranges import (
    LeadOf,
    ScratchOf,
    concats_in_place,
    in_place,
    is_view,
    legal_overlaps,
    live_buffers,
)
from .model import Buffer, MemoryPlan, Placed, short_name
from .prove import Proof, prove
from .search import CLOSE, search

PLACEMENTS = 1500  # tried by the search; a budget that is not met gets four times as many again


@dataclass(frozen=True)
class _Result:
    laid_out: frozenset[str]
    buffers: tuple[Buffer, ...]
    problem: Problem
    bounds: Bounds
    found: Proof

    @property
    def arena(self) -> int:
        return self.found.arena


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
    concats = concats_in_place(graph, alignment)
    ways = (in_place(graph, alignment), concats, frozenset[str]())
    best: _Result | None = None
    for laid_out in dict.fromkeys(ways):
        buffers = live_buffers(graph, scratch_of, laid_out)
        overlaps = legal_overlaps(graph, buffers, lead_of, scratch_lead_of)
        bounds = lower_bounds(buffers, overlaps, len(graph.nodes), alignment)
        if best is not None and bounds.arena >= best.arena:
            continue
        problem = build_problem(buffers, overlaps, alignment)
        stop = max(bounds.arena, enough if room is None else room)
        tries = PLACEMENTS if room is None or bounds.arena <= room else 0
        found = Proof(*search(problem, stop, budget, tries), bounds.arena)
        if room is None:
            found = prove(
                problem,
                found.offsets,
                found.arena,
                bounds.arena,
                peak=bounds.peak_step,
                enough=stop,
            )
            if max(found.lower_bound, stop) < found.arena <= CLOSE * found.lower_bound:
                # So little is left that it pays to search on for it.
                again = search(problem, max(found.lower_bound, stop), None, 4 * PLACEMENTS)
                found = min(found, Proof(*again, found.lower_bound), key=lambda p: p.arena)
        if exact and found.arena > found.lower_bound:
            found = Proof(*solve_exact(problem, found.offsets, found.lower_bound, time_limit_s))
        result = _Result(laid_out, buffers, problem, bounds, found)
        best = result if best is None else _better(best, result)
    if best is None:
        raise InternalError("there is nothing to plan", where="plan_arena")
    return _plan(graph, best)


def _better(a: _Result, b: _Result) -> _Result:
    """The result with the smaller arena, its lower bound that of both ways to lay out."""
    best = min((a, b), key=lambda r: r.arena)
    bound = min(a.found.lower_bound, b.found.lower_bound)
    return replace(best, found=replace(best.found, lower_bound=bound))


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


def _plan(graph: Graph, best: _Result) -> MemoryPlan:
    offsets, arena, bound = best.found.offsets, best.found.arena, best.found.lower_bound
    at = [offsets[c] + s for c, s in zip(best.problem.cluster, best.problem.start, strict=True)]
    placed = tuple(Placed(b, o) for b, o in zip(best.buffers, at, strict=True))
    views = {n.name for n in graph.nodes if is_view(graph, n)}
    peak = min(max(best.bounds.peak_step, 0), len(graph.nodes) - 1)
    return MemoryPlan(
        offsets={v: p.offset + at for p in placed for v, at in p.buffer.placed_values},
        scratch={p.buffer.name: p.offset for p in placed if p.buffer.is_scratch},
        arena_bytes=arena,
        lower_bound_bytes=bound,
        alignment=best.problem.alignment,
        order=tuple(n.name for n in graph.nodes),
        proved_optimal=arena == bound,
        peak_node=graph.nodes[peak].name if graph.nodes else "",
        peak_origin=str(graph.nodes[peak].origin) if graph.nodes else "",
        in_place=best.laid_out | views,
        placed=placed,
        bound_counts=_counts(best.bounds, bound, graph.nodes[peak].name if graph.nodes else ""),
        strategy=_strategy(graph),
    )


def _counts(bounds: Bounds, bound: int, peak_node: str) -> str:
    if bound > bounds.arena:
        return "what complete search finds impossible"
    if bounds.chain > max(bounds.steps):
        return "a chain of outputs, each over its input"
    return (
        f"what is live while {short_name(peak_node, 48)} runs, scratch and legal overlaps included"
    )


def _strategy(graph: Graph) -> str:
    striped = [n for n in graph.nodes if n.op.name == "conv2d" and STRIPES in n.origin.passes]
    if not striped:
        return "layer by layer"
    layers = len({n.inputs[1] for n in striped})
    return f"{layers} convolutions in stripes of rows, each row computed once"

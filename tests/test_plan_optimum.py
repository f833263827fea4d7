"""How good plans are: against all orders of first fit, complete search and the exact solver."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest

from tests.plan_graphs import (
    call,
    chain,
    random_case,
)
from tinsmith.errors import MissingTool
from tinsmith.plan import exact
from tinsmith.plan.arena import plan_arena
from tinsmith.plan.check import check_plan
from tinsmith.plan.constraints import Problem, build_problem
from tinsmith.plan.live_ranges import legal_overlaps, live_buffers
from tinsmith.plan.prove import Proof, prove
from tinsmith.plan.search import first_fit

GAPS = (71, 186, 198, 228, 258)  # of `random_case(seed, most=8)`: no plan reaches the lower bound


def brute_force(case, alignment: int) -> int:
    """The smallest arena: first fit over every order finds it when no lead is negative."""
    graph, calls = case
    by_name = {c.node.name: c for c in calls}
    buffers = live_buffers(graph, lambda n: by_name[n.name].scratch_bytes)
    overlaps = legal_overlaps(
        graph,
        buffers,
        lambda n, i: by_name[n.name].kernel.lead_bytes(n, i),
        lambda n, i: by_name[n.name].kernel.scratch_lead_bytes(n, i),
    )
    problem = build_problem(buffers, overlaps, alignment)
    orders = itertools.permutations(range(len(problem.bytes)))
    return min(first_fit(problem, order)[1] for order in orders)


def small_case(seed: int, *, over: bool = False):
    """No lead is negative."""
    graph, calls = random_case(seed, most=5, views=False, over=over)
    fixed = []
    for c in calls:
        given = (c.kernel.lead_bytes, c.kernel.scratch_lead_bytes)
        of_output, of_scratch = (
            {
                i: max(lead, 0)
                for i in range(len(c.node.inputs))
                if (lead := lead_of(c.node, i)) is not None
            }
            for lead_of in given
        )
        fixed.append(call(c.node, of_output, c.scratch_bytes, of_scratch))
    return graph, fixed


def test_the_heuristic_finds_the_optimum_of_small_graphs():
    """100 graphs of up to 7 buffers against all orders: all plans are optimal, no bound is
    above."""
    cases = [small_case(seed, over=seed % 3 == 0) for seed in range(180)]
    counted = 0
    for case in cases:
        plan = plan_arena(*case, 4)
        if len(plan.placed) > 7:
            continue
        counted += 1
        best = brute_force(case, 4)
        assert plan.lower_bound_bytes <= best == plan.arena_bytes
    assert counted >= 100


def test_a_chain_of_overlaps_drifts_down_and_the_bound_knows():
    """Three nodes in place with a lead of 8 each: one buffer and the leads, proved at once."""
    plan = plan_arena(*chain([64, 64, 64, 64], lead=8), 4)
    assert plan.arena_bytes == plan.lower_bound_bytes == 64 + 3 * 8
    assert plan_arena(*chain([64, 64, 64, 64], lead=40), 4).arena_bytes == 128  # side by side


def test_the_bound_of_chains_is_never_above_the_optimum():
    rng = random.Random(5)
    proved = 0
    for _ in range(80):
        sizes = [rng.randint(20, 40) for _ in range(rng.randint(3, 6))]
        case = chain(sizes, lead=rng.randint(0, 24), scratch=rng.choice((0, 0, 5)))
        if len(case[0].nodes) > 3:
            case = case[0], [replace(c, scratch_bytes=0) for c in case[1]]
        plan = plan_arena(*case, 4)
        best = brute_force(case, 4)
        assert plan.lower_bound_bytes <= best == plan.arena_bytes
        proved += plan.proved_optimal
    assert proved >= 50


def give_up(problem, offsets, arena: int, bound: int, **limits: int) -> Proof:
    return Proof(offsets, arena, bound)


@pytest.mark.parametrize("seed", GAPS)
def test_complete_search_proves_what_the_lower_bound_does_not(
    seed: int, monkeypatch: pytest.MonkeyPatch
):
    case = random_case(seed, most=8)
    proved = plan_arena(*case, 1)
    check_plan(*case, proved)
    monkeypatch.setattr("tinsmith.plan.arena.prove", give_up)
    quick = plan_arena(*case, 1)
    assert proved.proved_optimal
    assert not quick.proved_optimal
    assert quick.lower_bound_bytes < proved.lower_bound_bytes == proved.arena_bytes


@pytest.mark.parametrize("seed", GAPS)
def test_exact_proves_it_too(seed: int, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("ortools", reason="needs the extra tinsmith[plan]")
    case = random_case(seed, most=8)
    arena = plan_arena(*case, 1).arena_bytes
    monkeypatch.setattr("tinsmith.plan.arena.prove", give_up)
    best = plan_arena(*case, 1, exact=True)
    check_plan(*case, best)
    assert best.proved_optimal
    assert best.arena_bytes == arena == best.lower_bound_bytes


def problem_of(case) -> Problem:
    graph, calls = case
    by_name = {c.node.name: c for c in calls}
    buffers = live_buffers(
        graph, lambda n: by_name[n.name].scratch_bytes if n.name in by_name else 0
    )
    overlaps = legal_overlaps(
        graph,
        buffers,
        lambda n, i: by_name[n.name].kernel.lead_bytes(n, i) if n.name in by_name else None,
    )
    return build_problem(buffers, overlaps, 4)


def test_complete_search_agrees_with_the_exact_solver():
    """From the poorest plan, everything stacked: the same optimum, whatever the leads."""
    pytest.importorskip("ortools", reason="needs the extra tinsmith[plan]")
    bettered = 0
    for seed in range(40):
        problem = problem_of(random_case(1000 + seed, most=12))
        offsets, arena = first_fit(problem, range(len(problem.bytes)))
        proof = prove(problem, offsets, arena, 0)
        _, best, bound = exact.solve_exact(problem, offsets, 0, 20.0)
        assert proof.arena == proof.lower_bound == best == bound
        bettered += proof.arena < arena
        for i, rules in enumerate(problem.forbidden):
            for rule in rules:
                assert not rule.low < proof.offsets[i] - proof.offsets[rule.other] < rule.high
    assert bettered > 10


def test_of_a_large_problem_the_steps_around_the_peak_are_searched(
    monkeypatch: pytest.MonkeyPatch,
):
    """No bound of a part is above the optimum of all; many reach it."""
    raised = proved = 0
    for seed in range(200):
        problem = problem_of(random_case(seed, most=12))
        offsets, arena = first_fit(problem, range(len(problem.bytes)))
        best = prove(problem, offsets, arena, 0).arena
        rules = sum(map(len, problem.forbidden)) // 2
        peak = max(range(-1, 13), key=lambda step: sum(problem.during(step, step)[0].bytes))
        monkeypatch.setattr("tinsmith.plan.prove.MOST_RULES", rules - 1)
        part = prove(problem, offsets, arena, 0, peak=peak)
        monkeypatch.undo()
        assert (part.offsets, part.arena) == (offsets, arena)
        assert part.lower_bound <= best
        raised += part.lower_bound > 0
        proved += part.lower_bound == best
    assert raised > 100
    assert 100 < proved < 200


def test_complete_search_gives_up_when_it_is_told_to():
    problem = problem_of(random_case(71, most=8))
    offsets, arena = first_fit(problem, range(len(problem.bytes)))
    assert prove(problem, offsets, arena, 5, ways=3).lower_bound == 5
    assert prove(problem, offsets, arena, 0, enough=arena) == Proof(offsets, arena, 0)


def test_exact_betters_a_poor_plan(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("ortools", reason="needs the extra tinsmith[plan]")
    case = chain([32, 64, 16, 48, 80, 8], lead=12)
    monkeypatch.setattr(
        "tinsmith.plan.arena.search",
        lambda problem, bound, budget, tries: first_fit(problem, range(len(problem.bytes))),
    )
    monkeypatch.setattr("tinsmith.plan.arena.prove", give_up)
    poor, best = plan_arena(*case, 4), plan_arena(*case, 4, exact=True)
    monkeypatch.undo()
    check_plan(*case, best)
    assert best.arena_bytes < poor.arena_bytes
    assert best.proved_optimal
    assert plan_arena(*case, 4).arena_bytes == best.arena_bytes


def test_exact_without_ortools_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    def missing(name: str) -> object:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("tinsmith.plan.arena.prove", give_up)
    monkeypatch.setattr(exact.importlib, "import_module", missing)
    case = random_case(GAPS[0], most=8)
    with pytest.raises(MissingTool) as caught:
        plan_arena(*case, 1, exact=True)
    assert caught.value.render() == (
        "error: the exact memory planner needs OR-tools, which is not installed\n"
        "  hint: pip install 'tinsmith[plan]', or plan without --exact-plan"
    )

"""How good plans are: against all orders of first fit, and against the exact solver."""

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
from tinsmith.plan.arena import first_fit, plan_arena
from tinsmith.plan.check import check_plan
from tinsmith.plan.constraints import build_problem
from tinsmith.plan.live_ranges import legal_overlaps, live_buffers

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


@pytest.mark.parametrize("seed", GAPS)
def test_exact_proves_what_the_lower_bound_does_not(seed: int):
    pytest.importorskip("ortools", reason="needs the extra tinsmith[plan]")
    case = random_case(seed, most=8)
    quick = plan_arena(*case, 1)
    assert not quick.proved_optimal
    best = plan_arena(*case, 1, exact=True)
    check_plan(*case, best)
    assert best.proved_optimal
    assert best.arena_bytes == quick.arena_bytes == best.lower_bound_bytes


def test_exact_betters_a_poor_plan(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("ortools", reason="needs the extra tinsmith[plan]")
    case = chain([32, 64, 16, 48, 80, 8], lead=12)
    monkeypatch.setattr(
        "tinsmith.plan.arena._search",
        lambda problem, bound, budget, tries: first_fit(problem, range(len(problem.bytes))),
    )
    poor, best = plan_arena(*case, 4), plan_arena(*case, 4, exact=True)
    monkeypatch.undo()
    check_plan(*case, best)
    assert best.arena_bytes < poor.arena_bytes
    assert best.proved_optimal
    assert plan_arena(*case, 4).arena_bytes == best.arena_bytes


def test_exact_without_ortools_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    def missing(name: str) -> object:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(exact.importlib, "import_module", missing)
    case = random_case(GAPS[0], most=8)
    with pytest.raises(MissingTool) as caught:
        plan_arena(*case, 1, exact=True)
    assert caught.value.render() == (
        "error: the exact memory planner needs OR-tools, which is not installed\n"
        "  hint: pip install 'tinsmith[plan]', or plan without --exact-plan"
    )

"""The independent checker: what it rejects, and that it agrees with a simulated arena."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from tests.plan_graphs import (
    accepted,
    chain,
    random_case,
    survives,
)
from tinsmith.errors import InternalError
from tinsmith.plan.arena import plan_arena
from tinsmith.plan.check import check_plan

SEEDS = st.integers(0, 2**32 - 1)


@settings(max_examples=300, deadline=None)
@given(SEEDS)
def test_the_checker_and_the_simulation_agree_on_spoilt_plans(seed: int):
    case = random_case(seed, most=8, over=seed % 2 == 1)
    plan = plan_arena(*case, 1)
    rng = random.Random(seed)
    offsets, scratch = dict(plan.offsets), dict(plan.scratch)
    shift = rng.choice((-8, -4, -1, 1, 4, 8, 30))
    moved = rng.choice([p.buffer.values for p in plan.placed if p.buffer.values])
    if rng.random() < 0.2:
        moved = moved[-1:]  # a view leaves its source behind
    for v in moved:
        offsets[v] = max(0, offsets[v] + shift)
    if scratch and rng.random() < 0.3:
        scratch[rng.choice(list(scratch))] = rng.randrange(plan.arena_bytes)
    spoilt = replace(plan, offsets=offsets, scratch=scratch, arena_bytes=plan.arena_bytes + 64)
    event(f"survives: {survives(*case, spoilt)}")
    assert accepted(case, spoilt) == survives(*case, spoilt)


@settings(max_examples=150, deadline=None)
@given(SEEDS)
def test_the_checker_and_the_simulation_agree_on_random_offsets(seed: int):
    case = random_case(seed, most=3, views=False, over=seed % 2 == 1)
    plan = plan_arena(*case, 1)
    rng = random.Random(seed)
    room = rng.choice((40, 80, 160, 400))
    offsets = {v: rng.randrange(room) for v in plan.offsets}
    scratch = {n: rng.randrange(room) for n in plan.scratch}
    spoilt = replace(plan, offsets=offsets, scratch=scratch, arena_bytes=1000)
    event(f"survives: {survives(*case, spoilt)}")
    assert accepted(case, spoilt) == survives(*case, spoilt)


def test_checker_names_reader_value_and_writer():
    case = chain([16, 16, 16])
    plan = plan_arena(*case, 4)
    x, a, b = (*case[0].inputs, *(n.outputs[0] for n in case[0].nodes))
    spoilt = replace(plan, offsets={x: 0, a: 0, b: 16})
    with pytest.raises(InternalError) as caught:
        check_plan(*case, spoilt)
    assert caught.value.render() == (
        "error: the memory plan is wrong: the output %v1 at 0 overlaps the input %v0 at 0, "
        "and kernel mix_test forbids that\n"
        "  node: mix %v1 (mix '/v1')\n"
        "  hint: this is a defect of tinsmith: please report it with the model\n"
        "  in: check_plan"
    )


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"order": ("b", "a")}, "another order"),
        ({"arena_bytes": 8, "lower_bound_bytes": 8}, "outside the arena of 8 B"),
        ({"lower_bound_bytes": 99}, "lower bound 99 is above the arena"),
        ({"alignment": 3}, "no multiple of 3"),
        ({"offsets": {}}, "has no offset"),
        ({"in_place": frozenset({"v1"})}, "is not where"),
    ],
)
def test_checker_rejects(change: dict[str, object], text: str):
    case = chain([16, 16])
    plan = plan_arena(*case, 4)
    with pytest.raises(InternalError, match=text):
        check_plan(*case, replace(plan, **change))


def test_checker_refuses_a_node_in_place_that_computes():
    case = chain([16, 16], lead=0)
    plan = plan_arena(*case, 4)
    with pytest.raises(InternalError, match="mix cannot be in place"):
        check_plan(*case, replace(plan, in_place=frozenset({"v1"})))

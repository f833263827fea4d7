"""The arena planner: hand-made cases, and properties over random graphs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.plan_graphs import (
    CONCAT,
    MIX,
    VIEW,
    accepted,
    call,
    chain,
    node,
    random_case,
    survives,
    value,
)
from tinsmith.errors import InternalError
from tinsmith.ir.graph import Graph
from tinsmith.kernels.kernel import IN_PLACE_ONLY
from tinsmith.plan.arena import plan_arena
from tinsmith.plan.check import check_plan
from tinsmith.plan.live_ranges import concats_in_place

SEEDS = st.integers(0, 2**32 - 1)


def test_chain_alternates_between_two_ends():
    case = chain([100, 60, 80, 40])
    plan = plan_arena(*case, 4)
    check_plan(*case, plan)
    assert plan.arena_bytes == plan.lower_bound_bytes == 160
    assert plan.proved_optimal
    assert plan.peak_node == "v1"


def test_in_place_chain_needs_one_buffer():
    case = chain([64, 64, 48, 64], lead=0)
    plan = plan_arena(*case, 16)
    check_plan(*case, plan)
    assert plan.arena_bytes == 64
    assert set(plan.offsets.values()) == {0}


def test_growing_layer_needs_its_lead():
    case = chain([32, 64], lead=36)
    plan = plan_arena(*case, 4)
    check_plan(*case, plan)
    assert plan.arena_bytes == plan.lower_bound_bytes == 32 + 36
    assert plan.offsets[case[0].inputs[0]] - plan.offsets[case[0].outputs[0]] == 36


def test_lead_is_rounded_to_the_alignment():
    plan = plan_arena(*chain([32, 64], lead=33), 16)
    assert plan.arena_bytes == plan.lower_bound_bytes == 48 + 32


def test_negative_lead_lets_the_output_start_inside_the_input():
    case = chain([8, 40], lead=-8)
    assert plan_arena(*case, 4).arena_bytes == 40
    plan = plan_arena(*case, 4)
    x, y = case[0].inputs[0], case[0].outputs[0]
    assert accepted(case, replace(plan, offsets={x: 0, y: 8}, arena_bytes=48))
    assert survives(*case, replace(plan, offsets={x: 0, y: 8}, arena_bytes=48))


def test_in_place_only_is_one_place():
    case = chain([64, 64, 48], lead=IN_PLACE_ONLY)
    plan = plan_arena(*case, 4)
    check_plan(*case, plan)
    assert plan.arena_bytes == 64
    assert set(plan.offsets.values()) == {0}
    x, y = case[0].inputs[0], case[0].nodes[0].outputs[0]
    below = {**plan.offsets, x: 4, y: 0}
    with pytest.raises(InternalError, match="only at the same place"):
        check_plan(*case, replace(plan, offsets=below, arena_bytes=68))


def test_in_place_only_needs_room_beside_a_larger_input():
    """The input of the first node lives on, so nothing may take its place."""
    x, y, z = value("x", 32), value("y", 32), value("z", 32)
    nodes = (node(MIX, [x], [y]), node(MIX, [y, x], [z]))
    calls = [call(nodes[0], {0: IN_PLACE_ONLY}), call(nodes[1], {0: IN_PLACE_ONLY})]
    case = Graph("g", (x,), (z,), {}, nodes), calls
    plan = plan_arena(*case, 4)
    check_plan(*case, plan)
    assert plan.arena_bytes == 64
    assert plan.offsets[z] == plan.offsets[y] != plan.offsets[x]


@pytest.mark.parametrize(("other", "arena"), [(0, 32), (8, 64)])
def test_in_place_only_counts_before_a_lead_that_allows_it(other: int, arena: int):
    x, y = value("x", 32), value("y", 32)
    graph = Graph("g", (x,), (y,), {}, (node(MIX, [x, x], [y]),))
    case = graph, [call(graph.nodes[0], {0: other, 1: IN_PLACE_ONLY})]
    plan = plan_arena(*case, 4)
    check_plan(*case, plan)
    assert plan.arena_bytes == arena


def test_the_largest_lead_counts_when_a_buffer_is_read_twice():
    x, y = value("x", 32), value("y", 32)
    add = node(MIX, [x, x], [y])
    case = Graph("g", (x,), (y,), {}, (add,)), [call(add, {0: 0, 1: 8})]
    plan = plan_arena(*case, 4)
    assert plan.arena_bytes == 40
    never = Graph("g", (x,), (y,), {}, (add,)), [call(add, {0: 0})]
    assert plan_arena(*never, 4).arena_bytes == 64


def test_an_input_that_is_needed_later_is_not_overwritten():
    x, a, b = value("x", 32), value("a", 32), value("b", 32)
    nodes = (node(MIX, [x], [a]), node(MIX, [a, x], [b]))
    case = Graph("g", (x,), (b,), {}, nodes), [call(n, {0: 0, 1: 0}) for n in nodes]
    plan = plan_arena(*case, 4)
    check_plan(*case, plan)
    assert plan.arena_bytes == 64
    kept = Graph("g", (x,), (b, x), {}, nodes)
    assert plan_arena(kept, case[1], 4).arena_bytes == 64  # b in place of a
    assert plan_arena(kept, [call(n, {1: 0}) for n in nodes], 4).arena_bytes == 96


def test_scratch_overlaps_neither_input_nor_output():
    case = chain([32, 32], lead=0, scratch=20)
    plan = plan_arena(*case, 4)
    check_plan(*case, plan)
    assert plan.arena_bytes == 52
    assert not accepted(case, replace(plan, scratch={"v1": plan.offsets[case[0].inputs[0]]}))


def test_scratch_covers_an_input_that_dies():
    """12 bytes widened to 24, from the start: the input may be the end of them."""
    x, a, b = (value(n, size) for n, size in (("x", 12), ("a", 8), ("b", 8)))
    graph = Graph("g", (x,), (a,), {}, (node(MIX, [x], [a]),))
    case = graph, [call(graph.nodes[0], {0: -12}, 24, {0: 12})]
    plan = plan_arena(*case, 4)
    check_plan(*case, plan)
    assert survives(*case, plan)
    assert plan.arena_bytes == plan.lower_bound_bytes == 24 + 8
    assert plan.offsets[x] == plan.scratch["a"] + 12
    close = replace(plan, offsets={**plan.offsets, x: plan.scratch["a"] + 8})
    assert not accepted(case, close)
    assert not survives(*case, close)
    again = replace(graph, nodes=(*graph.nodes, node(MIX, [x], [b])), outputs=(a, b))
    needed = again, [*case[1], call(again.nodes[1])]
    assert plan_arena(*needed, 4).arena_bytes == 24 + 8 + 12  # the second node reads it, too


def test_views_share_bytes_and_extend_the_life_of_their_source():
    x, v, w, y = value("x", 32), value("v", 32), value("w", 32), value("y", 16)
    nodes = (node(VIEW, [x], [v]), node(VIEW, [v], [w]), node(MIX, [w], [y]))
    case = Graph("g", (x,), (y, v), {}, nodes), [call(nodes[2], {0: 0})]
    plan = plan_arena(*case, 4)
    check_plan(*case, plan)
    assert plan.offsets[x] == plan.offsets[v] == plan.offsets[w]
    assert plan.in_place == {"v", "w"}
    assert plan.arena_bytes == 48  # v is an output, so y must not overwrite it
    buffer = next(p.buffer for p in plan.placed if p.buffer.name == "x")
    assert (buffer.first, buffer.last) == (-1, 3)


def two_branches(quant_differs: bool = False):
    x, a, b, c, y = (value(n, s) for n, s in zip("xabcy", (32, 16, 32, 48, 8), strict=True))
    if quant_differs:
        c = replace(c, type=replace(c.type, shape=(3, 16)))
    nodes = (
        node(MIX, [x], [a]),
        node(MIX, [x], [b]),
        node(CONCAT, [a, b], [c]),
        node(MIX, [c], [y]),
    )
    return Graph("g", (x,), (y,), {}, nodes), [call(n) for n in nodes]


def test_concat_is_laid_out_in_place():
    case = two_branches()
    plan = plan_arena(*case, 4)
    check_plan(*case, plan)
    at = {v.name: o for v, o in plan.offsets.items()}
    assert plan.in_place == {"c"}
    assert (at["a"] - at["c"], at["b"] - at["c"]) == (0, 16)
    assert plan.arena_bytes == 80  # x, a and b; copying would need a, b and c: 96
    graph, _ = case
    assert concats_in_place(graph, 32) == frozenset()  # b would be misaligned


@pytest.mark.parametrize("change", ["read twice", "output", "inner axis", "view", "scale"])
def test_concat_is_copied_when_its_inputs_are_not_its_own(change: str):
    graph, _ = two_branches()
    assert concats_in_place(graph, 4) == {"c"}
    nodes, outputs = list(graph.nodes), graph.outputs
    a, c = nodes[0].outputs[0], nodes[2].outputs[0]
    if change == "read twice":
        nodes.append(node(MIX, [a], [value("z", 4)]))
    elif change == "output":
        outputs = (*outputs, a)
    elif change == "inner axis":
        wide = replace(c, type=c.type.with_shape((2, 24)))
        nodes[2] = replace(nodes[2], outputs=(wide,), attrs=replace(nodes[2].attrs, axis=1))
    elif change == "view":
        viewed = value("viewed", 16)
        nodes.insert(1, node(VIEW, [a], [viewed]))
        nodes[3] = replace(nodes[3], inputs=(viewed, nodes[3].inputs[1]))
    else:
        from tinsmith.ir.dtypes import Quant

        scaled = replace(c, type=replace(c.type, quant=Quant.per_tensor(0.5, 0)))
        nodes[2] = replace(nodes[2], outputs=(scaled,))
    assert concats_in_place(replace(graph, nodes=tuple(nodes), outputs=outputs), 4) == frozenset()


def test_a_node_without_kernel_is_refused():
    graph, calls = chain([8, 8, 8])
    with pytest.raises(InternalError, match="no kernel"):
        plan_arena(graph, calls[:1], 4)


def test_plan_is_deterministic():
    case = random_case(7, most=40)
    assert plan_arena(*case, 8) == plan_arena(*case, 8)


@settings(max_examples=150, deadline=None)
@given(SEEDS, st.sampled_from([1, 4, 8]))
def test_every_plan_passes_the_checker_and_the_simulation(seed: int, alignment: int):
    case = random_case(seed, over=seed % 2 == 1)
    plan = plan_arena(*case, alignment)
    check_plan(*case, plan)
    assert survives(*case, plan)
    assert plan.lower_bound_bytes <= plan.arena_bytes
    assert plan.proved_optimal == (plan.lower_bound_bytes == plan.arena_bytes)


def test_view_of_a_constant_is_copied():
    import numpy as np

    weights, v, x, y = value("w", 8), value("v", 8), value("x", 8), value("y", 8)
    nodes = (node(VIEW, [weights], [v]), node(MIX, [x, v], [y]))
    case = (
        Graph("g", (x,), (y,), {weights: np.zeros(8, np.int8)}, nodes),
        [call(nodes[1], {0: 0, 1: 0})],
    )
    plan = plan_arena(*case, 4)
    check_plan(*case, plan)
    assert weights not in plan.offsets
    assert plan.in_place == frozenset()
    assert plan.arena_bytes == 16

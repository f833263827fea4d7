"""Slices that are read where they lie: what they save, what the checker makes of them."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.plan_graphs import CONCAT, MIX, Case, accepted, call, fake_op, node, survives, value
from tinsmith.errors import InternalError
from tinsmith.ir.graph import Graph, Node, Value
from tinsmith.ops.slice import SliceAttrs
from tinsmith.plan.arena import plan_arena
from tinsmith.plan.check import check_plan
from tinsmith.plan.live_ranges import slices_in_place

SLICE = fake_op("slice", SliceAttrs)


def rows(x: Value, name: str, start: int, size: int, step: int = 1) -> Node:
    return node(SLICE, [x], [value(name, size)], SliceAttrs((0,), (start,), (size,), (step,)))


def streamed(count: int = 4, size: int = 16) -> Case:
    """A value read in `count` slices, each turned into a part of as many bytes of the output."""
    x, y = value("x", count * size), value("y", count * size)
    nodes: list[Node] = []
    for k in range(count):
        nodes.append(rows(x, f"s{k}", k * size, size))
        nodes.append(node(MIX, [value(f"s{k}", size)], [value(f"p{k}", size)]))
    parts = [value(f"p{k}", size) for k in range(count)]
    nodes.append(node(CONCAT, parts, [y]))
    return Graph("streamed", (x,), (y,), {}, tuple(nodes)), [call(n) for n in nodes]


def test_the_output_takes_the_place_of_dead_rows() -> None:
    case = streamed()
    plan = plan_arena(*case, 4)
    check_plan(*case, plan)
    assert survives(*case, plan)
    assert plan.in_place == {"s0", "s1", "s2", "s3", "y"}
    assert plan.arena_bytes == 64 + 16  # neither x and y side by side, nor a copy of any row
    assert plan.proved_optimal


@pytest.mark.parametrize(("lead", "arena"), [(0, 64), (8, 64 + 8), (-4, 64)])
def test_rows_are_overwritten_while_they_are_read(lead: int, arena: int) -> None:
    graph, _ = streamed()
    case = graph, [call(n, {0: lead} if n.op is MIX else None) for n in graph.nodes]
    plan = plan_arena(*case, 4)
    check_plan(*case, plan)
    assert survives(*case, plan)
    assert plan.arena_bytes == arena
    assert plan.proved_optimal


def test_the_checker_wants_a_slice_where_its_elements_are() -> None:
    case = streamed()
    plan = plan_arena(*case, 4)
    slice_1 = case[0].nodes[2].outputs[0]
    moved = replace(plan, offsets={**plan.offsets, slice_1: plan.offsets[slice_1] - 4})
    with pytest.raises(InternalError, match="is not where its elements are"):
        check_plan(*case, moved)
    over = {p.outputs[0]: plan.offsets[case[0].nodes[-2].inputs[0]] for p in case[0].nodes[1:2]}
    spoilt = replace(plan, offsets={**plan.offsets, **over}, in_place=plan.in_place - {"y"})
    assert not accepted(case, spoilt)  # the first part over the last rows
    assert not survives(*case, spoilt)


def test_a_slice_is_copied_where_its_input_is_read_whole_too() -> None:
    graph, _ = streamed()
    x = graph.inputs[0]
    assert slices_in_place(graph, 4) == {"s0", "s1", "s2", "s3"}
    assert slices_in_place(graph, 32) == frozenset()  # s1 would be misaligned
    whole = node(MIX, [x], [value("w", 4)])
    assert slices_in_place(replace(graph, nodes=(*graph.nodes, whole)), 4) == frozenset()
    assert slices_in_place(replace(graph, outputs=(*graph.outputs, x)), 4) == frozenset()
    every_other = rows(x, "e", 0, 8, 2)
    assert slices_in_place(replace(graph, nodes=(*graph.nodes, every_other)), 4) == frozenset()


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 4]))
def test_every_plan_passes_the_checker_and_the_simulation(seed: int, alignment: int) -> None:
    """Slices of any rows, overlapping or not, aligned or not, in any order of use."""
    rng = random.Random(seed)
    x = value("x", rng.randint(8, 60))
    nodes: list[Node] = []
    made: list[Value] = []
    for k in range(rng.randint(1, 5)):
        start = rng.randrange(x.type.bytes) // rng.choice((1, 4)) * rng.choice((1, 1, 4))
        start = min(start, x.type.bytes - 1)
        size = rng.randint(1, x.type.bytes - start)
        nodes.append(rows(x, f"s{k}", start, size))
        sources = [nodes[-1].outputs[0], *rng.sample(made, min(len(made), rng.randint(0, 1)))]
        nodes.append(node(MIX, sources, [value(f"p{k}", rng.randint(1, 30))]))
        made.append(nodes[-1].outputs[0])
    nodes.append(node(MIX, made, [value("y", 8)]))
    graph = Graph("sliced", (x,), nodes[-1].outputs, {}, tuple(nodes))
    leads = ({}, {0: 0}, {0: 4})
    case = graph, [call(n, rng.choice(leads), rng.choice((0, 0, 7))) for n in nodes]
    plan = plan_arena(*case, alignment)
    check_plan(*case, plan)
    assert survives(*case, plan)
    assert plan.lower_bound_bytes <= plan.arena_bytes

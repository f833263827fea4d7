"""Execution order: exact on small graphs, a beam on wide ones, never worse than given."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.plan_graphs import (
    MIX,
    node,
    random_case,
    value,
)
from tinsmith.ir.graph import Graph, Stage
from tinsmith.plan.arena import plan_arena
from tinsmith.plan.bounds import lower_bounds
from tinsmith.plan.chain import ALIGNMENT
from tinsmith.plan.live_ranges import in_place, legal_overlaps, live_buffers
from tinsmith.plan.order import order_nodes, peak_bytes

SEEDS = st.integers(0, 2**32 - 1)


def test_order_runs_the_small_branch_last():
    """Two branches with large intermediates: the file interleaves them, the schedule does not."""
    x, y = value("x", 8), value("y", 8)
    big = [value(f"big{i}", 100) for i in range(2)]
    small = [value(f"small{i}", 4) for i in range(2)]
    nodes = (
        *(node(MIX, [x], [b]) for b in big),
        *(node(MIX, [b], [s]) for b, s in zip(big, small, strict=True)),
        node(MIX, small, [y]),
    )
    graph = Graph("g", (x,), (y,), {}, nodes)
    ordered = order_nodes(graph, lambda n: 0)
    assert [n.name for n in ordered.nodes] == ["big0", "small0", "big1", "small1", "y"]
    assert ordered.stage is Stage.SCHEDULED
    assert (peak_bytes(graph, lambda n: 0), peak_bytes(ordered, lambda n: 0)) == (208, 112)


def brute_force_order(graph: Graph, scratch_of, lead_of) -> int:
    best = peak_bytes(graph, scratch_of, lead_of)
    for nodes in itertools.permutations(graph.nodes):
        known = set(graph.inputs)
        for n in nodes:
            if not known.issuperset(n.inputs):
                break
            known.update(n.outputs)
        else:
            best = min(best, peak_bytes(replace(graph, nodes=nodes), scratch_of, lead_of))
    return best


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.booleans())
@example(253, False)  # an input that nobody reads ends with the first node, whichever that is
def test_order_is_exact_on_small_graphs_and_never_worse(seed: int, beam: bool):
    graph, calls = random_case(seed, most=6)
    by_name = {c.node.name: c for c in calls}

    def scratch_of(n):
        return by_name[n.name].scratch_bytes if n.name in by_name else 0

    def lead_of(n, i):
        return by_name[n.name].kernel.lead_bytes(n, i) if n.name in by_name else None

    with pytest.MonkeyPatch.context() as patch:
        if beam:
            patch.setattr("tinsmith.plan.order.EXACT_STATES", 1)
        ordered = order_nodes(graph, scratch_of, lead_of)
    assert sorted(n.name for n in ordered.nodes) == sorted(n.name for n in graph.nodes)
    assert plan_arena(ordered, calls, 1).order == tuple(n.name for n in ordered.nodes)
    peak = peak_bytes(ordered, scratch_of, lead_of)
    assert peak <= peak_bytes(graph, scratch_of, lead_of)
    if not beam:
        assert peak == brute_force_order(graph, scratch_of, lead_of)


@settings(max_examples=60, deadline=None)
@given(SEEDS)
@example(14434)  # a concatenation laid out in place
def test_the_order_metric_is_the_lower_bound(seed: int):
    """Two programs compute the peak of live bytes: over sets of nodes, and over live ranges."""
    graph, calls = random_case(seed)
    by_name = {c.node.name: c for c in calls}

    def scratch_of(n):
        return by_name[n.name].scratch_bytes if n.name in by_name else 0

    def lead_of(n, i):
        return by_name[n.name].kernel.lead_bytes(n, i) if n.name in by_name else None

    buffers = live_buffers(graph, scratch_of, in_place(graph, ALIGNMENT))
    bounds = lower_bounds(buffers, legal_overlaps(graph, buffers, lead_of), len(graph.nodes), 1)
    assert peak_bytes(graph, scratch_of, lead_of) == max(bounds.steps)


def test_order_of_a_wide_graph_is_found_by_the_beam():
    """24 independent branches: too many sets of nodes to visit, yet the beam unravels them."""
    x, y = value("x", 8), value("y", 8)
    big = [value(f"big{i}", 100) for i in range(24)]
    small = [value(f"small{i}", 4) for i in range(24)]
    rows = [node(MIX, [x], [b]) for b in big]
    rows += [node(MIX, [b], [s]) for b, s in zip(big, small, strict=True)]
    graph = Graph("g", (x,), (y,), {}, (*rows, node(MIX, small, [y])))
    assert peak_bytes(graph, lambda n: 0) == 8 + 24 * 100
    assert peak_bytes(order_nodes(graph, lambda n: 0), lambda n: 0) == 8 + 23 * 4 + 100

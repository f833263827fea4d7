"""Which kernel a node gets, and what is said of those that run slowly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tinsmith.errors import CompileError
from tinsmith.ir.graph import Graph
from tinsmith.kernels import registry
from tinsmith.kernels.aim import Aim
from tinsmith.kernels.candidate import Candidate
from tinsmith.kernels.kernel import Constant, Kernel
from tinsmith.kernels.select import generic_kernels, rank_kernels, select, select_kernels
from tinsmith.machine.target import load_target
from tinsmith.plan.stripes import stripe_rows

from .int8_nets import Int8Net, bottleneck_net


def _conv_net(name: str = "net") -> Graph:
    net = Int8Net(name, 1)
    return net.build(net.conv(net.conv(net.input(1, 5, 6, 3), 4), 4, 1))


def test_nodes_without_a_kernel_are_named() -> None:
    graph = _conv_net()
    with pytest.raises(CompileError, match="no int8 kernel for conv2d") as caught:
        select_kernels(graph, load_target("host"), [])
    assert "conv2d0" in str(caught.value)


def test_the_cheapest_kernel_that_applies_is_chosen() -> None:
    graph = _conv_net()
    (base,) = (k for k in registry() if k.name == "conv2d_s8")

    def variant(name: str, cost: float, **changes: object) -> Kernel:
        return replace(base, name=name, instructions=lambda node, graph: cost, **changes)

    pool = [
        variant("plain", 100.0),
        variant("cheap", 10.0),
        variant("cheap_too", 10.0),
        variant("needs_dsp", 1.0, features=frozenset({"dsp"})),
        variant("never", 2.0, applies=lambda node, graph: False),
        variant("other", 0.5, op="dense"),
    ]
    chosen = select_kernels(graph, load_target("cortex-m0"), pool)
    assert [c.kernel.name for c in chosen] == ["cheap", "cheap"]
    chosen = select_kernels(graph, load_target("cortex-m4"), pool)
    assert [c.kernel.name for c in chosen] == ["needs_dsp", "needs_dsp"]


def _forms() -> list[Kernel]:
    """Two forms of a kernel: the fast one saves 90,000 instructions for 36 bytes more."""
    (base,) = (k for k in registry() if k.name == "conv2d_s8")

    def form(name: str, cost: float, size: int) -> Kernel:
        array = np.zeros(size, np.int8)
        return replace(
            base,
            name=name,
            instructions=lambda node, graph: cost,
            constants=lambda node, graph: {"w": Constant(array)},
            scratch_bytes=lambda node, graph: 100 if name == "fast" else 0,
        )

    return [form("fast", 1e4, 40), form("small", 1e5, 4)]


def test_flash_is_a_budget() -> None:
    graph, pool, m0 = _conv_net(), _forms(), load_target("cortex-m0")
    code = 2 * 500  # two functions that nobody measured, as their shapes differ

    def chosen(room: int | None) -> list[str]:
        return sorted(c.kernel.name for c in select_kernels(graph, m0, pool, room=room))

    assert chosen(None) == ["fast", "fast"]
    assert chosen(code + 80) == ["fast", "fast"]
    assert chosen(code + 79) == ["fast", "small"]
    assert chosen(code + 43) == ["small", "small"]
    assert chosen(1) == ["small", "small"]  # the linker will say that it does not fit
    ranked = rank_kernels(graph, m0, pool, Aim())
    assert select(ranked, room=code + 79).status == "optimal"
    assert select(ranked, room=1).status == "too large"


def test_flash_has_a_price() -> None:
    graph, m0 = _conv_net(), load_target("cortex-m0")
    fast, small = _forms()
    close = replace(small, instructions=lambda node, graph: 1e4 + 36 * 128 - 1)
    assert {c.kernel.name for c in select_kernels(graph, m0, [fast, small])} == {"fast"}
    aim = Aim("flash")
    assert {c.kernel.name for c in select_kernels(graph, m0, [fast, small], aim=aim)} == {"fast"}
    assert {c.kernel.name for c in select_kernels(graph, m0, [fast, close], aim=aim)} == {"small"}


def test_ram_is_a_limit_at_each_node() -> None:
    graph, pool = _conv_net(), _forms()
    ranked = rank_kernels(graph, load_target("cortex-m0"), pool, Aim())
    first, second = ranked
    needs = {(first, "fast"): 300, (first, "small"): 200, (second, "fast"): 150}
    needs[second, "small"] = 50

    def chosen(limit: int) -> list[str]:
        return [c.kernel.name for c in select(ranked, needs=needs, limit=limit).chosen]

    assert chosen(300) == ["fast", "fast"]
    assert chosen(299) == ["small", "fast"]
    assert chosen(149) == ["small", "small"]
    assert select(ranked, needs=needs, limit=299).live_bytes == 200
    assert chosen(0) == ["small", "small"]  # nothing is small enough: what needs least


def test_cycles_need_prices() -> None:
    graph = _conv_net()
    with pytest.raises(CompileError, match="cycles of target cortex-m7") as caught:
        select_kernels(graph, load_target("cortex-m7"), aim=Aim("cycles"))
    assert "instructions" in (caught.value.hint or "")


def test_generic_kernels_are_noted_where_tuned_ones_exist() -> None:
    graph = _conv_net()
    portable = [k for k in registry() if not k.features]
    for name, count in (("cortex-m7", 2), ("cortex-m0", 0)):
        target = load_target(name)
        notes = list(generic_kernels(select_kernels(graph, target, portable), target))
        assert len(notes) == count, notes
    m7 = load_target("cortex-m7")
    tuned = [c for c in select_kernels(graph, m7) if c.kernel.features]
    assert list(generic_kernels(tuned, m7)) == []


def test_rows_of_one_layer_take_one_kernel_where_flash_counts() -> None:
    graph, target, aim = stripe_rows(bottleneck_net(64)), load_target("cortex-m7"), Aim("flash")
    chosen = select(rank_kernels(graph, target, registry(), aim), aim)
    by_weights: dict[object, list[Candidate]] = {}
    for c in chosen.chosen:
        if c.node.op.name == "conv2d":
            by_weights.setdefault(c.node.inputs[1], []).append(c)
    assert max(map(len, by_weights.values())) > 2
    assert all(len({c.kernel.name for c in rows}) == 1 for rows in by_weights.values())
    once = sum(rows[0].constant_bytes for rows in by_weights.values())
    others = sum(c.constant_bytes for c in chosen.chosen if c.node.op.name != "conv2d")
    code = {c.function: c.option("instructions").code_bytes for c in chosen.chosen}
    assert chosen.flash_bytes == once + others + sum(code.values())

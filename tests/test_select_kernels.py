"""Which kernel a node gets, and what is said of those that run slowly."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tinsmith.errors import CompileError
from tinsmith.ir.graph import Graph
from tinsmith.kernels import registry
from tinsmith.kernels.kernel import Kernel
from tinsmith.kernels.select import generic_kernels, select_kernels
from tinsmith.machine.target import load_target

from .int8_nets import Int8Net


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

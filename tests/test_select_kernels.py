"""Which kernel a node gets, and what is said of those that run slowly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tinsmith.errors import CompileError
from tinsmith.ir.graph import Graph
from tinsmith.kernels import registry
from tinsmith.kernels.kernel import Constant, Kernel
from tinsmith.kernels.select import FREE, Prices, generic_kernels, select_kernels
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


def test_flash_has_a_price() -> None:
    """Two forms of a kernel: the fast one saves 900 instructions for 36 bytes more."""
    graph = _conv_net()
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

    pool = [form("fast", 100.0, 40), form("small", 1000.0, 4)]
    m0 = load_target("cortex-m0")

    def chosen(prices: Prices = FREE, room: int | None = None) -> set[str]:
        return {c.kernel.name for c in select_kernels(graph, m0, pool, prices=prices, room=room)}

    assert chosen() == {"fast"}
    assert chosen(Prices(flash=24.0)) == {"fast"}
    assert chosen(Prices(flash=26.0)) == {"small"}
    assert chosen(Prices(scratch=8.0)) == {"fast"}
    assert chosen(Prices(scratch=10.0)) == {"small"}
    assert chosen(room=80) == {"fast"}
    assert chosen(room=79) == {"small"}
    assert chosen(room=1) == {"small"}  # the linker will say that it does not fit


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

"""Training graphs in secret order, against the plain ones: at every cut, by the interpreter."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from tinsmith.errors import CompileError
from tinsmith.ir.graph import Graph
from tinsmith.ir.interpret import run_step
from tinsmith.train.scheme import Scheme, Update, layers
from tinsmith.trust.cut import TrustError, places
from tinsmith.trust.learning import Learning, LockedLearning, lock_learning
from tinsmith.trust.partition import Partition, join_graphs, partition
from tinsmith.trust.state_order import to_locked

from .int8_nets import Int8Net
from .training_nets import branched_net, dense_net, mobile_net, samples, training_graph

KEY = bytes(range(32))
STEPS = 30
SCHEMES = {
    "residual8": Scheme(),
    "residual4": Scheme(rule="residual4", weight_decay=1e-3),
    "batch": Scheme(rule="nearest", batch=4, momentum=0.9),
}


def at_cut(
    base: Graph, mode: str, cut: str, scheme: Scheme, fraction: float
) -> tuple[Graph, Partition, LockedLearning]:
    """Trains every layer after a cut, the last one whole."""
    parts = partition(base, mode, KEY, cut)
    names = {n.name for n in parts.nonsecure.nodes if n.op.name != "authorize"}
    place = next(p for p in places(base) if p.value.name == cut)
    after = [n for n in layers(base) if n in place.below and n.name in names]
    assert after
    update = [Update(node=n.name, bias=True, weights=fraction) for n in after]
    loss = "mse" if base.outputs[0].type.elements > 10 else "cross_entropy"
    scheme = msgspec.structs.replace(scheme, loss=loss, update=tuple(update))
    plain = training_graph(base, scheme)
    learning = Learning(base, plain, scheme, base)
    return plain, parts, lock_learning(learning, parts.nonsecure, parts.mode, KEY, cut)


def compare(plain: Graph, parts: Partition, locked: LockedLearning) -> None:
    """Losses, outputs and states of both, step by step."""
    joined = join_graphs(locked.graph, parts.secure)
    rng = np.random.default_rng(1)
    mine = {v: plain.initializers[v] for v in plain.state}
    theirs = {v: joined.initializers[v] for v in joined.state}
    label = plain.inputs[-2].type
    for x in samples(plain, STEPS):
        high = 4 if label.elements == 1 else 100
        given = rng.integers(0, high, label.shape).astype(label.dtype.numpy)
        arrays = [*x, given, np.array([0.02], np.float32)]
        expected, mine = run_step(plain, arrays, mine)
        found, theirs = run_step(joined, arrays, theirs)
        assert all(map(np.array_equal, found, expected))
    pairs = zip(mine.items(), theirs.values(), locked.orders, strict=True)
    for (value, array), other, order in pairs:
        assert np.array_equal(to_locked(array, order), other), value.name


@pytest.mark.parametrize("rule", SCHEMES)
@pytest.mark.parametrize("mode", ["withhold", "permute", "coreguard-otp"])
@pytest.mark.parametrize("net", [mobile_net, branched_net, dense_net])
def test_every_cut_learns_as_the_plain_network(
    net: Callable[[], Graph], mode: str, rule: str
) -> None:
    base = net()
    tried = moved = 0
    for place in places(base):
        try:
            found = at_cut(base, mode, place.value.name, SCHEMES[rule], 0.5)
        except TrustError:
            continue
        compare(*found)
        tried += 1
        moved += sum(not np.array_equal(o, np.arange(o.size)) for o in found[2].orders)
    assert moved >= tried
    assert tried > (mode == "permute") or net is branched_net


def test_a_gradient_summed_over_secret_channels_is_refused() -> None:
    net = Int8Net("gated", 4)
    x = net.conv(net.input(1, 6, 6, 4), 16, 3)
    x = net.conv(net.conv(x, 16, 1), 16, 1)
    base = net.build(net.dense(net.add("mul", [x, net.conv(x, 1, 1)]), 5))
    cut = layers(base)[1].outputs[0].name
    with pytest.raises(CompileError, match="its gradient, a sum of float32") as caught:
        at_cut(base, "permute", cut, Scheme(), 1.0)
    assert "mul" in str(caught.value)

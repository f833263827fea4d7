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
from tinsmith.trust.partition import Partition, partition
from tinsmith.trust.state_order import to_locked

from .int8_nets import Int8Net
from .training_nets import branched_net, dense_net, mobile_net, samples, training_graph
from .trust_join import join_learning

KEY = bytes(range(32))
STEPS = 30
SCHEMES = {
    "residual8": Scheme(),
    "residual4": Scheme(rule="residual4", weight_decay=1e-3),
    "batch": Scheme(rule="nearest", batch=4, momentum=0.9),
}


def at_cut(
    base: Graph, mode: str, cut: str, scheme: Scheme, fraction: float, where: str = "after"
) -> tuple[Graph, Partition, LockedLearning]:
    """Trains every layer after a cut; also those before it, or that of the bridge; or those alone.

    where: after, before, both, bridge, all. A classifier learns whole in any case.
    """
    parts = partition(base, mode, KEY, cut)
    place = next(p for p in places(base) if p.value.name == cut)
    secret = set(parts.cut.bridge)
    sides = {
        "after": [n for n in layers(base) if n in place.below and n.name not in secret],
        "before": [n for n in layers(base) if n in place.above and n.name not in secret],
        "bridge": [n for n in layers(base) if n.name in secret],
    }
    sides["both"] = [*sides["before"], *sides["after"]]
    sides["all"] = layers(base)
    if not sides[where]:
        raise TrustError("nothing to train there")
    update = [Update(node=n.name, bias=True, weights=fraction) for n in sides[where]]
    loss = "mse" if base.outputs[0].type.elements > 10 else "cross_entropy"
    scheme = msgspec.structs.replace(scheme, loss=loss, update=tuple(update))
    plain = training_graph(base, scheme)
    learning = Learning(base, plain, scheme, base)
    return plain, parts, lock_learning(learning, parts, KEY, cut)


def compare(plain: Graph, parts: Partition, locked: LockedLearning, steps: int = STEPS) -> None:
    """Losses, outputs and states of both, step by step."""
    joined = join_learning(locked, parts)
    rng = np.random.default_rng(1)
    mine = {v: plain.initializers[v] for v in plain.state}
    theirs = {v: joined.initializers[v] for v in joined.state}
    label = plain.inputs[-2].type
    for x in samples(plain, steps):
        high = 4 if label.elements == 1 else 100
        given = rng.integers(0, high, label.shape).astype(label.dtype.numpy)
        arrays = [*x, given, np.array([0.02], np.float32)]
        expected, mine = run_step(plain, arrays, mine)
        found, theirs = run_step(joined, arrays, theirs)
        assert all(map(np.array_equal, found, expected))
    held = [i for i in range(len(plain.state)) if i not in locked.secured]
    for i, other in zip((*held, *locked.secured), theirs.values(), strict=True):
        value = plain.state[i]
        assert np.array_equal(to_locked(mine[value], locked.orders[i]), other), value.name


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


@pytest.mark.parametrize("where", ["before", "both", "bridge", "all"])
@pytest.mark.parametrize("mode", ["withhold", "permute"])
@pytest.mark.parametrize("net", [mobile_net, branched_net, dense_net])
def test_gradients_through_the_gateway_are_the_plain_ones(
    net: Callable[[], Graph], mode: str, where: str
) -> None:
    base = net()
    tried = 0
    for place in places(base):
        try:
            share = 1.0 if net is branched_net else 0.5
            found = at_cut(base, mode, place.value.name, Scheme(), share, where)
        except TrustError:
            continue
        compare(*found, 8)
        tried += found[2].backward is not None
    assert tried or net is branched_net or mode == "permute"


def bridge_net(form: str) -> tuple[Graph, str]:
    """A network and its cut; the bridge has the form: what is after its layer, what it reads."""
    net = Int8Net(f"bridge_{form}", len(form))
    add, conv = net.add, net.conv
    x = conv(net.input(1, 8, 8, 3), 12, 3, 2)
    wide = conv(x, 12, 1)
    side = net.depthwise(wide)
    made = {
        "layer": lambda: conv(side, 12, 3),
        "residual": lambda: add("add", [wide, conv(side, 12, 1)]),
        "same": lambda: add("sub", [conv(x, 12, 1), x]),
        "shared": lambda: add("add", [conv(x, 16, 1), conv(net.depthwise(x), 16, 1)]),
        "gate": lambda: add("mul", [conv(x, 12, 1), conv(net.pool("max_pool", x, 4), 12)]),
        "max_pool": lambda: net.pool("max_pool", conv(x, 12, 1), 2, 2),
        "average_pool": lambda: net.pool("average_pool", add("add", [x, conv(side, 12)]), 3),
        "table": lambda: add("sigmoid", [conv(x, 12, 1)]),
        "three": lambda: add("mul", [wide, add("add", [conv(side, 12), x])]),
    }[form]()
    return net.build(net.dense(conv(made, 10, 1), 5)), made.name


FORMS = (
    "layer", "residual", "same", "shared", "gate", "max_pool", "average_pool", "table", "three",
)  # fmt: skip


@pytest.mark.parametrize("where", ["before", "bridge", "all"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_bridge_gives_the_plain_gradients(form: str, where: str) -> None:
    base, cut = bridge_net(form)
    found = at_cut(base, "withhold", cut, Scheme(), 1.0, where)
    backward = found[2].backward
    assert backward is not None
    assert bool(backward.state) == (where != "before")
    compare(*found, 8)


def test_a_gradient_summed_over_secret_channels_is_refused() -> None:
    net = Int8Net("gated", 4)
    x = net.conv(net.input(1, 6, 6, 4), 16, 3)
    x = net.conv(net.conv(x, 16, 1), 16, 1)
    base = net.build(net.dense(net.add("mul", [x, net.conv(x, 1, 1)]), 5))
    cut = layers(base)[1].outputs[0].name
    with pytest.raises(CompileError, match="its gradient, a sum of float32") as caught:
        at_cut(base, "permute", cut, Scheme(), 1.0)
    assert "mul" in str(caught.value)


def test_a_gradient_summed_inside_the_bridge_is_refused() -> None:
    """The classes of a cut do not reach into its bridge, whose channels are in secret order too."""
    net = Int8Net("gated_bridge", 4)
    x = net.conv(net.input(1, 6, 6, 4), 16, 3)
    made = net.pool("max_pool", net.add("mul", [net.conv(x, 16, 1), net.conv(x, 1, 1)]), 2, 2)
    base = net.build(net.dense(net.conv(made, 8, 1), 5))
    with pytest.raises(CompileError, match="its gradient, a sum of float32"):
        at_cut(base, "withhold", made.name, Scheme(), 1.0, "before")
    compare(*at_cut(base, "withhold", made.name, Scheme(), 1.0, "after"), 4)

"""Gradients of whole networks against finite differences, and QAS against SGD on real weights.

The reference is the unrounded network in float64: what the integer network approximates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from tinsmith.ir.dtypes import Array
from tinsmith.ir.graph import Graph, Node, Value
from tinsmith.train.program import Program
from tinsmith.train.scheme import Scheme, Update
from tinsmith.train.unrounded import UNROUNDED

from .training_nets import (
    branched_net,
    dense_net,
    everything,
    mobile_net,
    real_gradients,
    some,
    training_graph,
)

EPS = 1e-4
NETS: list[tuple[str, Callable[[], Graph], Scheme]] = [
    ("mobile", mobile_net, everything()),
    ("mobile_some", mobile_net, some()),
    ("branched", branched_net, everything()),
    ("autoencoder", dense_net, everything("mse")),
    ("mobile_float", mobile_net, real_gradients(everything())),
    ("branched_float", branched_net, real_gradients(everything())),
]
CASES = [pytest.param(make, scheme, id=name) for name, make, scheme in NETS]


@dataclass
class Unrounded:
    """One step of a training graph in float64."""

    graph: Graph
    x: Array
    given: Array

    @classmethod
    def of(cls, make: Callable[[], Graph], scheme: Scheme, seed: int) -> Unrounded:
        graph, rng = training_graph(make(), scheme), np.random.default_rng(seed)
        x = rng.uniform(-128, 127, graph.inputs[0].type.shape)
        if scheme.loss == "mse":
            return cls(graph, x, rng.integers(-128, 128, graph.inputs[1].type.shape, np.int8))
        return cls(graph, x, np.array([rng.integers(graph.outputs[0].type.elements)], np.int32))

    def state(self) -> dict[Value, Array]:
        return {v: self.graph.initializers[v].astype(np.float64) for v in self.graph.state}

    def step(
        self, state: dict[Value, Array], rate: float = 1.0
    ) -> tuple[float, dict[Value, Array]]:
        g = self.graph
        news = [new for _, new in g.updates]
        writes = [g.outputs[-1], *news]
        program = Program(g, g.nodes, [*g.inputs, *g.state], writes, UNROUNDED)
        given = [self.x, self.given, np.array([rate], np.float32)]
        loss, *made = program.run([*given, *state.values()])
        return float(loss[0]), dict(zip(state, made, strict=True))

    def layers(self) -> list[Node]:
        """The layers in which something learns."""
        state = set(self.graph.state)
        nodes = [n for n in self.graph.nodes if n.op.name == "conv2d_trainable"]
        return [n for n in nodes if state.intersection(n.inputs)]

    def gradients(self) -> dict[tuple[str, str], Array]:
        """dL/dw and dL/db per integer, by layer, as the updates compute them."""
        constants = dict(self.graph.initializers)
        for node in self.graph.nodes:
            if node.op.name in ("weight_update", "bias_update"):
                value = node.inputs[4 if node.op.name == "weight_update" else 3]
                assert np.all(constants[value] > 0), "no channel of these networks is frozen"
                constants[value] = np.ones_like(constants[value])
        plain = replace(self, graph=replace(self.graph, initializers=constants))
        old = self.state()
        _, new = plain.step(old)
        found: dict[tuple[str, str], Array] = {}
        for node in self.layers():
            trained, bias = node.inputs[2:4]
            moved = np.zeros(bias.type.shape)
            if trained in old:
                found[node.name, "weights"] = old[trained] - new[trained]
                moved = (new[trained] - old[trained]).sum(axis=(1, 2, 3))
            if node.attrs.train_bias:
                found[node.name, "bias"] = old[bias] - new[bias] - node.x.zero_point * moved
        return found


@pytest.mark.parametrize(("make", "scheme"), CASES)
@pytest.mark.parametrize("seed", [0, 2])  # no value of these lies on a kink of a table's clamp
def test_gradients_match_finite_differences(
    make: Callable[[], Graph], scheme: Scheme, seed: int
) -> None:
    net = Unrounded.of(make, scheme, seed)
    analytic = net.gradients()
    rng = np.random.default_rng(seed)
    checked = 0
    for node in net.layers():
        trained, bias = node.inputs[2:4]
        for what in ("weights", "bias"):
            if (node.name, what) not in analytic:
                continue
            value = trained if what == "weights" else bias
            expected = analytic[node.name, what]
            peak = np.abs(expected).max()
            for flat in rng.choice(value.type.elements, min(6, value.type.elements), replace=False):
                index = np.unravel_index(flat, value.type.shape)
                if what == "weights" and node.attrs.update_channels:
                    index = (int(rng.choice(node.attrs.update_channels)), *index[1:])
                slope = _slope(net, node, value, index)
                assert abs(slope - expected[index]) <= 2e-5 * peak + 1e-12
                checked += 1
    assert checked > 20


def _slope(net: Unrounded, node: Node, value: Value, index: tuple[int, ...]) -> float:
    """Central difference of the loss; a moved weight keeps z_x folded into the bias."""
    size = EPS if value is node.inputs[2] else 30 * EPS
    losses: list[float] = []
    for sign in (1, -1):
        state = net.state()
        state[value][index] += sign * size
        if value is node.inputs[2]:
            bias = node.inputs[3]
            if bias in state:
                state[bias][index[0]] -= sign * size * node.x.zero_point
            else:
                pytest.fail("a layer whose weights learn must have its bias as state")
        losses.append(net.step(state, 0.0)[0])
    return (losses[0] - losses[1]) / (2 * size)


@pytest.mark.parametrize(("make", "scheme"), CASES)
def test_a_qas_step_is_an_sgd_step_on_real_weights(
    make: Callable[[], Graph], scheme: Scheme
) -> None:
    """s_w · (w' − w) = −rate · dL/dW, and s_x·s_w · (b' − b) = −rate · dL/dB, with dL/dW =
    dL/dw / s_w and dL/dB = dL/db / (s_x·s_w) of the same network in real numbers."""
    net, rate = Unrounded.of(make, scheme, 5), 1e-3
    gradients, old = net.gradients(), net.state()
    _, new = net.step(old, rate)
    for node in net.layers():
        trained, bias = node.inputs[2:4]
        s_w = np.array(node.inputs[1].type.quant.scale)
        moved = np.zeros(len(s_w))
        if trained in old:
            real_step = (new[trained] - old[trained]) * s_w[:, None, None, None]
            real_gradient = gradients[node.name, "weights"] / s_w[:, None, None, None]
            _close(real_step, -rate * real_gradient)
            moved = (new[trained] - old[trained]).sum(axis=(1, 2, 3))
        if node.attrs.train_bias:
            s_b = s_w * node.x.scale
            true_bias_step = new[bias] - old[bias] + node.x.zero_point * moved
            _close(true_bias_step * s_b, -rate * gradients[node.name, "bias"] / s_b)


def test_nothing_is_built_for_gradients_nobody_wants() -> None:
    scheme = Scheme(update=(Update(last=1, bias=True, weights=1.0),))
    graph = training_graph(mobile_net(), scheme)
    ops = [n.op.name for n in graph.nodes]
    assert ops.count("conv2d_input_gradient") == 1  # of the classifier
    assert ops.count("weight_update") == 2
    assert "sum_gradients" not in ops
    full = [n.op.name for n in training_graph(mobile_net(), everything()).nodes]
    assert full.count("conv2d_input_gradient") == 6
    assert full.count("sum_gradients") == 1


def _close(a: Array, b: Array) -> None:
    assert np.abs(b).max() > 0
    assert np.abs(a - b).max() <= 2e-5 * np.abs(b).max()

"""Gradients of whole networks against torch's autograd, on the same network in real numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tinsmith import paths
from tinsmith.ir.dtypes import Array
from tinsmith.ir.graph import Graph, Node, Value
from tinsmith.pass_manager import run_passes
from tinsmith.passes import build_backward
from tinsmith.train.program import Program
from tinsmith.train.scheme import read_scheme
from tinsmith.train.unrounded import UNROUNDED

from .test_training_gradients import CASES, Unrounded
from .test_training_schemes import network, selected

torch = pytest.importorskip("torch")
F = torch.nn.functional
Tensor = Any


class TorchNet:
    """A forward graph in float64 on dequantised tensors; every trained array is a leaf."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.leaves: dict[tuple[str, str], Tensor] = {}

    def logits(self, x: Array, until: Value) -> Tensor:
        first = self.graph.inputs[0].type
        made: dict[Value, Tensor] = {self.graph.inputs[0]: _real(torch.tensor(x), first)}
        for node in self.graph.nodes:
            rule = getattr(self, f"_{node.op.name}", None)
            if until in made:
                break
            if rule is None:  # a mask or a saved input
                continue
            made[node.outputs[0]] = rule(node, [made.get(v) for v in node.inputs])
        return made[until]

    def _conv2d(self, node: Node, x: list[Tensor]) -> Tensor:
        w, bias = (self.graph.initializers[v] for v in node.inputs[1:3])
        scales = np.array(node.inputs[1].type.quant.scale)
        real_w = torch.tensor(w * scales[:, None, None, None])
        return self._convolve(node, x[0], real_w, torch.tensor(bias * scales * node.x.scale))

    def _conv2d_trainable(self, node: Node, x: list[Tensor]) -> Tensor:
        frozen, trained, folded = (self.graph.initializers[v] for v in node.inputs[1:4])
        scales = np.array(node.inputs[1].type.quant.scale)
        column = scales[:, None, None, None]
        sums = node.x.zero_point * (frozen.sum((1, 2, 3)) + trained.sum((1, 2, 3), dtype=np.int64))
        bias = torch.tensor((folded + sums) * scales * node.x.scale)
        leaf = torch.tensor(trained * column)
        self.leaves[node.name, "weights"] = leaf.requires_grad_()
        self.leaves[node.name, "bias"] = bias.requires_grad_()
        channels = frozen.shape[3] + trained.shape[3]
        others = sorted(set(range(channels)) - set(node.attrs.trained_channels))
        order = np.argsort([*node.attrs.trained_channels, *others])
        w = torch.cat([leaf, torch.tensor(frozen * column)], 3)[..., torch.tensor(order)]
        return self._convolve(node, x[0], w, bias)

    def _convolve(self, node: Node, x: Tensor, w: Tensor, bias: Tensor) -> Tensor:
        a = node.attrs
        top, left, bottom, right = a.pads
        x = F.pad(x.permute(0, 3, 1, 2), (left, right, top, bottom))
        y = F.conv2d(x, w.permute(0, 3, 1, 2), bias, a.strides, 0, a.dilations, a.groups)
        return _clamp(node, y.permute(0, 2, 3, 1))

    def _add(self, node: Node, x: list[Tensor]) -> Tensor:
        return _clamp(node, x[0] + x[1])

    def _sub(self, node: Node, x: list[Tensor]) -> Tensor:
        return _clamp(node, x[0] - x[1])

    def _reduce_mean(self, node: Node, x: list[Tensor]) -> Tensor:
        return _clamp(node, x[0].mean(node.attrs.axes, keepdim=node.attrs.keepdims))

    def _reshape(self, node: Node, x: list[Tensor]) -> Tensor:
        return x[0].reshape(node.attrs.shape)


def _real(q: Tensor, type_: Any) -> Tensor:
    return (q - type_.zero_point) * type_.scale


def _clamp(node: Node, y: Tensor) -> Tensor:
    """No gradient on a bound: a channel with a bias of 0 and dead inputs lies there exactly."""
    low, high = ((q - node.y.zero_point) * node.y.scale for q in node.attrs.q_clamp)
    return torch.where((y > low) & (y < high), y, y.detach().clamp(low, high))


def _compare(graph: Graph, x: Array, label: int, tolerance: float) -> int:
    """Checks every trained tensor; returns how many gradients are not zero."""
    net = Unrounded(graph, x, np.array([label], np.int32))
    ours = _plain_gradients(net)
    (loss_node,) = [n for n in graph.nodes if n.op.name == "softmax_cross_entropy"]
    torch_net = TorchNet(graph)
    logits = torch_net.logits(x, loss_node.inputs[0])
    loss = F.cross_entropy(logits.reshape(1, -1), torch.tensor([label]))
    assert abs(loss.item() - net.step(net.state(), 0.0)[0]) < 1e-5
    loss.backward()
    alive = 0
    for node in net.layers():
        scales = np.array(node.inputs[1].type.quant.scale)
        for what, unit in (
            ("weights", scales[:, None, None, None]),
            ("bias", scales * node.x.scale),
        ):
            if (node.name, what) not in ours:
                continue
            mine = ours[node.name, what] / unit
            theirs = torch_net.leaves[node.name, what].grad.numpy()
            frozen = ours[node.name, "frozen"]
            mine, theirs = mine[~frozen], theirs[~frozen]
            if node.attrs.update_channels and what == "weights":
                moving = np.isin(np.flatnonzero(~frozen), node.attrs.update_channels)
                mine, theirs = mine[moving], theirs[moving]
            peak = np.abs(theirs).max(initial=0)
            assert np.abs(mine - theirs).max(initial=0) <= tolerance * peak + 1e-15
            alive += int(np.count_nonzero(theirs))
    return alive


def _plain_gradients(net: Unrounded) -> Mapping[tuple[str, str], Array]:
    """dL/dw and dL/db by layer, and which output channels are frozen."""
    graph, constants = net.graph, dict(net.graph.initializers)
    frozen: dict[str, Array] = {}
    owner = {n.inputs[3]: n.name for n in net.layers()}
    for node in graph.nodes:
        if node.op.name in ("weight_update", "bias_update"):
            weights = node.op.name == "weight_update"
            value = node.inputs[4 if weights else 3]
            bias = node.inputs[6] if weights else node.inputs[4]
            if bias in owner:
                frozen[owner[bias]] = constants[value] == 0
            constants[value] = (constants[value] != 0).astype(np.float32)
    plain = Unrounded(replace(graph, initializers=constants), net.x, net.given)
    old = net.state()
    _, new = plain.step(old)
    found: dict[tuple[str, str], Array] = {}
    for node in net.layers():
        trained, bias = node.inputs[2:4]
        found[node.name, "frozen"] = frozen[node.name]
        moved = np.zeros(bias.type.shape)
        if trained in old:
            found[node.name, "weights"] = old[trained] - new[trained]
            moved = (new[trained] - old[trained]).sum(axis=(1, 2, 3))
        if node.attrs.train_bias:
            found[node.name, "bias"] = old[bias] - new[bias] - node.x.zero_point * moved
    return found


@pytest.mark.parametrize(("make", "scheme"), CASES[:2])
def test_small_networks(make: Callable[[], Graph], scheme: Any) -> None:
    net = Unrounded.of(make, scheme, 1)
    assert _compare(net.graph, net.x, int(net.given[0]), 1e-5) > 100


@pytest.mark.parametrize("name", ["mcunet-5fps-148kb", "mbv2-w0.35-49kb", "proxyless-w0.3-120kb"])
def test_published_networks(name: str) -> None:
    """Two images; the fresh classifier is filled so that gradients reach the layers below."""
    scheme = read_scheme(paths.GRAPHS / "schemes" / f"{name}.toml")
    graph, context = selected(network(name.rpartition("-")[0]), scheme)
    graph = run_passes(graph, (build_backward.PASS,), context)
    graph = with_random_classifier(graph)
    rng = np.random.default_rng(0)
    for label in (3, 7):
        x = rng.uniform(-128, 127, graph.inputs[0].type.shape)
        assert _compare(graph, x, label, 2e-5) > 10_000


def with_random_classifier(graph: Graph) -> Graph:
    head = [n for n in graph.nodes if n.op.name == "conv2d_trainable"][-1]
    w = np.random.default_rng(1).integers(-127, 128, head.inputs[2].type.shape, np.int8)
    bias = -head.x.zero_point * w.sum((1, 2, 3), dtype=np.int64)
    constants = {head.inputs[2]: w, head.inputs[3]: bias.astype(np.int32)}
    return replace(graph, initializers={**graph.initializers, **constants})


def test_the_unrounded_network_is_close_to_the_integer_one() -> None:
    """Within an LSB or two of the logits: rounding is all that differs."""
    net = Unrounded.of(CASES[0].values[0], CASES[0].values[1], 3)
    graph, x = net.graph, np.rint(net.x).astype(np.int8)
    logits = graph.outputs[0]
    given = [x, net.given, np.array([0.0], np.float32)]
    integer = Program(graph, graph.nodes, graph.inputs, [logits], {}).run(given)[0]
    real = Program(graph, graph.nodes, graph.inputs, [logits], UNROUNDED).run(given)[0]
    assert np.abs(integer - real).max() < 4

"""Small int8 networks that learn, and helpers to train any graph in tests."""

from __future__ import annotations

import msgspec
import numpy as np

from tinsmith.ir.dtypes import Array, Quant
from tinsmith.ir.graph import Graph, Value
from tinsmith.ops._clamp import UNBOUNDED
from tinsmith.ops.average_pool import AveragePoolAttrs
from tinsmith.ops.max_pool import MaxPoolAttrs
from tinsmith.ops.pad import PadAttrs
from tinsmith.ops.reduce_mean import ReduceMeanAttrs
from tinsmith.ops.slice import SliceAttrs
from tinsmith.pass_manager import PassContext, run_passes
from tinsmith.passes import build_backward, select_updates
from tinsmith.train.scheme import Scheme, Update

from .int8_nets import Int8Net


def mobile_net(form: type[Int8Net] = Int8Net) -> Graph:
    """Convolution, inverted residual (pointwise, depthwise, pointwise, add), mean, dense."""
    net = form("mobile", 1)
    x = net.conv(net.input(1, 8, 8, 3), 8, 3, 2)
    wide = net.conv(x, 16, 1)
    narrow = net.conv(net.depthwise(wide), 8, 1)
    joined = net.add("add", [x, narrow])
    down = net.depthwise(net.conv(joined, 12, 1), 5, 2)
    return net.build(net.dense(_mean(net, down), 5))


def branched_net(form: type[Int8Net] = Int8Net) -> Graph:
    """Pools side by side, concat, split, a gate, sub, slice, pad, and a softmax at the end."""
    net = form("branched", 2)
    x = net.conv(net.input(1, 8, 6, 3), 8, 3)
    pooled = [
        net.add("max_pool", [x], MaxPoolAttrs((3, 3), (2, 1), (1, 1, 1, 1), layout="NHWC")),
        net.add("average_pool", [x], AveragePoolAttrs((3, 3), (2, 1), (1, 1, 1, 1), layout="NHWC")),
    ]
    both = net.concat(pooled)
    a, b = net.split(both, (6, 10))
    b = net.add("slice", [b], SliceAttrs((3,), (1,), (6,), (1,)))
    joined = net.add("sub", [net.conv(a, 6, 1), b])
    gate = net.conv(_mean(net, joined), 6, 1)
    gated = net.add("mul", [joined, gate])
    padded = net.add("pad", [gated], PadAttrs((1, 2), (1, 0), (0, 2)))
    grouped = net.conv(padded, 6, 3, 2, groups=2)
    return net.build(net.add("softmax", [net.dense(grouped, 4)]))


def dense_net(form: type[Int8Net] = Int8Net) -> Graph:
    """An autoencoder of dense layers, for the squared error."""
    net = form("autoencoder", 3)
    x = net.input(1, 24)
    hidden = net.dense(net.dense(x, 10), 12)
    return net.build(net.dense(hidden, 24))


def training_graph(graph: Graph, scheme: Scheme) -> Graph:
    """Selects and builds the backward pass of a lowered graph."""
    context = PassContext(options={"scheme": scheme})
    return run_passes(graph, (select_updates.PASS, build_backward.PASS), context)


def everything(loss: str = "cross_entropy", rule: str = "residual8") -> Scheme:
    """All weights and biases of all layers."""
    update = (Update(node="*", bias=True, weights=1.0),)
    return Scheme(loss=loss, rule=rule, update=update)  # type: ignore[arg-type]


def some(rule: str = "residual8") -> Scheme:
    """Half of the channels of the last three layers, all biases but the first layer's."""
    return Scheme(
        rule=rule,  # type: ignore[arg-type]
        update=(
            Update(node="*", bias=True),
            Update(index=0, bias=False),
            Update(last=3, weights=0.5),
        ),
    )


def real_gradients(scheme: Scheme) -> Scheme:
    """The same with float32 gradients."""
    return msgspec.structs.replace(scheme, gradients="float32")


def samples(graph: Graph, count: int, seed: int = 0) -> list[list[Array]]:
    """Random inputs of the model."""
    rng = np.random.default_rng(seed)
    shape = graph.inputs[0].type.shape
    return [[rng.integers(-128, 128, shape, np.int8)] for _ in range(count)]


def _mean(net: Int8Net, x: Value) -> Value:
    return net.add("reduce_mean", [x], ReduceMeanAttrs((1, 2), True, UNBOUNDED))


__all__ = ["Quant", "branched_net", "dense_net", "everything", "mobile_net", "samples", "some"]

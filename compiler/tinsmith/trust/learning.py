"""A protected model that learns: the training graph of the non-secure image, in secret order.

Layers after the cut may learn. Every sum over channels of such a step is one of integers, and the
rest is done channel by channel, so a step in any order of channels gives the weights of the plain
model's step in that order, bit for bit. What does not keep to this is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..ir.dtypes import Array
from ..ir.graph import Graph, Node, Stage, Value
from ..pass_manager import PassContext, run_passes
from ..passes import build_backward, select_updates
from ..plan.stripes import stripe_rows
from ..train.scheme import Scheme, SchemeError, Selection, layers, resolve
from .cut import Mode, Site, TrustError, choose
from .keystream import Secret
from .state_order import LayerOrder, state_orders

_BINARY = ("add", "mul", "sub")  # operands that are broadcast get sums of float gradients


@dataclass(frozen=True)
class Learning:
    """What of a model learns.

    base: lowered QUANTIZED graph, with the scheme's classifier. plain: its training graph, PLANNED.
    network: what `base` was lowered from, in ONNX layout.
    """

    base: Graph
    plain: Graph
    scheme: Scheme
    network: Graph


@dataclass(frozen=True)
class LockedLearning:
    """graph: the training graph of the non-secure image. orders: per state in the order of
    `graph.state` which element of the plain model's state is at every place of it, int64[n]."""

    graph: Graph
    orders: tuple[Array, ...]


def check_learnable(scheme: Scheme) -> None:
    """Raises SchemeError for what depends on the order of channels."""
    if scheme.gradients != "int8":
        raise SchemeError(
            "a protected model learns by int8 gradients: sums of float32 gradients depend on the "
            "order of channels",
            expected='gradients = "int8"',
        )
    if scheme.rule == "stochastic":
        raise SchemeError(
            "a protected model cannot learn by stochastic rounding: its random numbers go to the "
            "weights in the order of channels",
            expected="residual8, residual4 or nearest",
        )


def lock_learning(
    learning: Learning, nonsecure: Graph, mode: Mode, key: bytes, cut: str | None
) -> LockedLearning:
    """The training graph of a partition's non-secure graph.

    nonsecure: what `partition(learning.base, mode, key, cut)` gave. Raises TrustError when the
    scheme wants what is not after the cut, or sums that depend on the order of channels.
    """
    site = choose(learning.base, mode, cut)
    secret = Secret(key, site.classes.all())
    chosen = resolve(learning.scheme, learning.base)
    orders = {n.name: _order_of(n, site, secret) for n in layers(learning.base)}
    _check_place(learning.base, site, chosen)
    _check_sums(learning.base, site, chosen)
    pairs = _trainable(learning.base, learning.plain)
    selections = {n.name: Selection() for n in layers(nonsecure)}
    for name, node in pairs.items():
        if chosen[name].trains:
            selections[name] = _selection(node, orders[name])
    context = PassContext(options={"scheme": learning.scheme, "selections": selections})
    passes = (select_updates.PASS, build_backward.PASS)
    locked = run_passes(replace(nonsecure, stage=Stage.QUANTIZED), passes, context)
    found = _trainable(learning.base, locked)
    layers_of = [(pairs[name], found[name], orders[name]) for name in pairs if name in found]
    return LockedLearning(stripe_rows(locked), state_orders(learning.plain, locked, layers_of))


def _order_of(node: Node, site: Site, secret: Secret) -> LayerOrder:
    """The order of a layer's output channels and of a filter's input channels."""
    axes = site.classes.constants.get((node.name, 1))
    shape = node.inputs[1].type.shape
    found = [None, None] if axes is None else [axes[0], axes[-1]]
    orders = [None if t is None else site.classes.order(t, secret.order) for t in found]
    sizes = (shape[0], shape[-1])
    out, inner = (np.arange(n) if o is None else o for o, n in zip(orders, sizes, strict=True))
    return LayerOrder(out, inner)


def _check_place(base: Graph, site: Site, chosen: Mapping[str, Selection]) -> None:
    after = [n for n in site.place.below if n not in site.bridge]
    names = {n.name for n in after}
    for node in base.nodes:
        if node.name in chosen and chosen[node.name].trains and node.name not in names:
            where = "in the secure image" if node in site.bridge else "before the cut"
            first = [str(n.origin) for n in after if n.name in chosen][:3]
            raise TrustError(
                f"the scheme trains a layer {where}, at %{site.locked.name}",
                node=str(node.origin),
                expected=f"layers after it: {', '.join(first)} … " if first else "layers after it",
                hint="no gradient goes through the gateway: train fewer layers, or cut earlier "
                "with --trust-cut",
            )


def _check_sums(base: Graph, site: Site, chosen: Mapping[str, Selection]) -> None:
    """The gradient of an operand that is repeated over channels is a sum of floats."""
    crossed: set[Value] = set()
    for node in base.nodes:
        if node.op.name in _BINARY:
            for value in crossed.intersection(node.inputs):
                if _sums_over_a_class(site, value, node.outputs[0]):
                    raise TrustError(
                        f"{node.op.name} repeats %{value.name} over channels in secret order: its "
                        "gradient, a sum of float32, would depend on that order",
                        node=str(node.origin),
                        hint="train only layers after this node",
                    )
        trains = node.name in chosen and chosen[node.name].trains
        if trains or crossed.intersection(node.inputs):
            crossed.update(node.outputs)


def _sums_over_a_class(site: Site, value: Value, y: Value) -> bool:
    axes = site.classes.values.get(y, ())
    shape = (1,) * (y.type.rank - value.type.rank) + tuple(value.type.shape)
    return any(
        own == 1 and out > 1 and site.classes.free(site.classes.orders.resolve(term))
        for own, out, term in zip(shape, y.type.shape, axes, strict=False)
    )


def _trainable(base: Graph, training: Graph) -> dict[str, Node]:
    """conv2d_trainable nodes by the name of the layer that they stand for."""
    names = {n.name for n in base.nodes}
    found: dict[str, Node] = {}
    for node in training.nodes:
        if node.op.name == "conv2d_trainable":
            name = node.name  # a dense layer's is that of the reshape behind it
            if name not in names:
                readers = training.consumers[node.outputs[0]]
                name = next(n.name for n in readers if n.op.name == "reshape")
            found[name] = node
    return found


def _selection(plain: Node, order: LayerOrder) -> Selection:
    """The same channels of a layer in secret order."""
    attrs = plain.attrs
    axis, natural = order.inner, attrs.trained_channels
    if order.inner.size == 1 and natural and attrs.groups == order.out.size:  # depthwise
        axis = order.out
        natural = attrs.update_channels or tuple(range(order.out.size))
    places = np.flatnonzero(np.isin(axis, natural))
    return Selection(bias=attrs.train_bias, channels=tuple(int(p) for p in places))

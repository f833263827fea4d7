"""A protected model that learns: the training graphs of both worlds, in secret order.

Every sum over channels of a step is one of integers, and the rest is done channel by channel, so a
step in any order of channels gives the weights of the plain model's step in that order, bit for
bit. What does not keep to this is refused. Where only layers after the cut learn the non-secure
image does it alone; else gradients go through the gateway (trust/learning_worlds.py).
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
from .learning_worlds import authorized_network, divide, with_sealed_state
from .partition import Partition
from .state_order import LayerOrder, state_orders
from .worlds import bridge_carries_order, locked_order

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
    """graph: the training graph of the non-secure image. orders: per state of the plain model, in
    the order of its `state`, which of its elements is at every place of the protected one's,
    int64[n]. secured: of these states the ones in secure memory, by number.

    forward, backward: of the secure image, where gradients go through the gateway; else None.
    """

    graph: Graph
    orders: tuple[Array, ...]
    secured: tuple[int, ...] = ()
    forward: Graph | None = None
    backward: Graph | None = None


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


def cut_for(learning: Learning, mode: Mode) -> tuple[str, str]:
    """(the best cut at which the scheme is legal, what to say where it is not the best of all).

    Raises TrustError with the reason against the best cut where the scheme is legal at none.
    """
    reasons: list[TrustError] = []

    def check(site: Site) -> None:
        try:
            _check(learning, site, mode)
        except TrustError as error:
            reasons.append(error)
            raise

    name = choose(learning.base, mode, None, check).place.value.name
    best = choose(learning.base, mode).place.value.name
    if name == best or not reasons:
        return name, ""
    return name, (
        f"the cut is at {name} and not at {best}, where the scheme would not be legal: "
        f"{reasons[0].message}"
    )


def lock_learning(
    learning: Learning, parts: Partition, key: bytes, cut: str | None
) -> LockedLearning:
    """The training graphs of both worlds.

    parts: what `partition(learning.base, mode, key, cut)` gave. Raises TrustError when the scheme
    wants gradients that the mode has no call for, or sums that depend on the order of channels.
    """
    site = choose(learning.base, parts.mode, cut)
    secret = Secret(key, site.classes.all())
    chosen = resolve(learning.scheme, learning.base)
    orders = _layer_orders(learning.base, site, secret)
    crosses = _check(learning, site, parts.mode)
    network, locked = parts.nonsecure, None
    if crosses:
        network, locked = authorized_network(learning.base, parts)
    training = _training_graph(learning, replace(network, stage=Stage.QUANTIZED), chosen, orders)
    pairs, found = (_trainable(learning.base, g) for g in (learning.plain, training))
    layers_of = [(pairs[name], found[name], orders[name]) for name in pairs if name in found]
    places = state_orders(learning.plain, training, layers_of)
    if locked is None:
        return LockedLearning(stripe_rows(training), places)
    worlds = divide(training, locked)
    secured = tuple(i for i, v in enumerate(training.state) if v in worlds.backward.state)
    graph = stripe_rows(worlds.nonsecure)
    if secured:
        graph = with_sealed_state(graph, worlds.backward)
    return LockedLearning(graph, places, secured, worlds.forward, worlds.backward)


def _check(learning: Learning, site: Site, mode: Mode) -> bool:
    """Whether gradients go through the gateway. Raises TrustError where the scheme is not legal."""
    chosen = resolve(learning.scheme, learning.base)
    crosses = _crosses(learning.base, site, chosen, mode)
    _check_sums(learning.base, site, chosen)
    locked = [n for n in site.bridge if n.name in chosen and chosen[n.name].trains]
    if locked and learning.scheme.optimizer.keeps_velocity:
        raise TrustError(
            "the layer in the secure image learns sample by sample: no sum of gradients is kept in "
            "secure memory",
            node=str(locked[0].origin),
            expected="batch = 1 and momentum = 0, or a scheme without this layer",
        )
    return crosses


def _training_graph(
    learning: Learning,
    network: Graph,
    chosen: Mapping[str, Selection],
    orders: Mapping[str, LayerOrder],
) -> Graph:
    """The plain model's, of a network in secret order: the same channels of the same layers."""
    pairs = _trainable(learning.base, learning.plain)
    selections = {n.name: Selection() for n in layers(network)}
    for name, node in pairs.items():
        if chosen[name].trains:
            selections[name] = _selection(node, orders[name])
    context = PassContext(options={"scheme": learning.scheme, "selections": selections})
    return run_passes(network, (select_updates.PASS, build_backward.PASS), context)


def _layer_orders(base: Graph, site: Site, secret: Secret) -> dict[str, LayerOrder]:
    """By name of the layer: the order of its output channels and of its filter's input channels."""
    found: dict[str, LayerOrder] = {}
    for node in layers(base):
        shape = node.inputs[1].type.shape
        axes = site.classes.constants.get((node.name, 1))
        orders = [np.arange(shape[0]), np.arange(shape[-1])]
        for i, term in enumerate(() if axes is None else (axes[0], axes[-1])):
            order = site.classes.order(term, secret.order)
            orders[i] = orders[i] if order is None else order
        if node in site.bridge and bridge_carries_order(base, site):
            orders[0] = locked_order(site, secret)
        found[node.name] = LayerOrder(*orders)
    return found


def _crosses(base: Graph, site: Site, chosen: Mapping[str, Selection], mode: Mode) -> bool:
    """Whether a layer before the cut or in the secure image learns. Raises TrustError in modes
    that have no call for its gradient."""
    after = {n.name for n in site.place.below if n not in site.bridge}
    early = [n for n in base.nodes if n.name in chosen and chosen[n.name].trains]
    early = [n for n in early if n.name not in after]
    if early and mode == "coreguard-otp":
        node = early[0]
        where = "in the secure image" if node in site.bridge else "before the cut"
        first = [str(n.origin) for n in site.place.below if n.name in after & chosen.keys()][:3]
        raise TrustError(
            f"the scheme trains a layer {where}, at %{site.locked.name}: its gradient would be a "
            "sum over a layer that is split between the worlds, which a pad cannot blind",
            node=str(node.origin),
            expected=f"layers after it: {', '.join(first)} … " if first else "layers after it",
            hint="--trust withhold lets layers before the cut learn; or cut earlier with "
            "--trust-cut",
        )
    return bool(early)


def _check_sums(base: Graph, site: Site, chosen: Mapping[str, Selection]) -> None:
    """The gradient of an operand that is repeated over channels is a sum of floats."""
    crossed: set[Value] = set()
    for node in base.nodes:
        if node.op.name in _BINARY:
            for value in crossed.intersection(node.inputs):
                inside = node in site.bridge and _repeats_channels(value, node.outputs[0])
                if inside or _sums_over_a_class(site, value, node.outputs[0]):
                    raise TrustError(
                        f"{node.op.name} repeats %{value.name} over channels in secret order: its "
                        "gradient, a sum of float32, would depend on that order",
                        node=str(node.origin),
                        hint="train only layers after this node",
                    )
        trains = node.name in chosen and chosen[node.name].trains
        if trains or crossed.intersection(node.inputs):
            crossed.update(node.outputs)


def _repeats_channels(value: Value, y: Value) -> bool:
    return y.type.shape[-1] > (value.type.shape or (1,))[-1]


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

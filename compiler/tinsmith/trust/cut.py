"""Where to cut: the value whose channels get a secret order, and what its bridge is.

A place is a value that every path from the inputs to the outputs goes through. The best one leaves
as many parameters locked below it as lie above: an attacker relearns the smaller side.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ..errors import CompileError
from ..ir.graph import Graph, Node, Stage, Value
from ..ops.authorize import MAX_INPUTS
from .classes import Classes, find_classes

Mode = Literal["withhold", "permute", "coreguard-otp"]
MODES: tuple[Mode, ...] = ("withhold", "permute", "coreguard-otp")
MIN_CHANNELS = 8  # fewer have so few orders that trying them all is no work
WEIGHTED = ("conv2d", "dense")
# What may stand between the withheld layer and the cut, inside the bridge.
_AFTER_LAYER = (
    "add", "average_pool", "identity", "lookup", "max_pool", "mul", "reduce_mean", "resize", "sub",
)  # fmt: skip


class TrustError(CompileError):
    """A model that cannot be partitioned, or not where the user wants it."""


@dataclass(frozen=True)
class Place:
    """value: what alone crosses. above, below: the nodes on both sides, in order."""

    value: Value
    above: tuple[Node, ...]
    below: tuple[Node, ...]


@dataclass(frozen=True)
class Site:
    """A place at which a mode works.

    locked: the value that leaves the gateway in secret order. bridge: nodes of the secure world;
    layer: the one with weights. locked_nodes: those below that are permuted.
    """

    place: Place
    locked: Value
    bridge: tuple[Node, ...]
    layer: Node | None
    classes: Classes
    locked_nodes: tuple[Node, ...]

    def bridge_values(self, graph: Graph) -> tuple[Value, ...]:
        """What the bridge reads from outside."""
        made = {v for n in self.bridge for v in n.outputs}
        read = (v for n in self.bridge for v in graph.activations(n) if v not in made)
        return tuple(dict.fromkeys(read))


def choose(
    graph: Graph,
    mode: Mode,
    cut: str | None = None,
    check: Callable[[Site], None] = lambda site: None,
) -> Site:
    """The best site, or the one the user names. Raises TrustError with the reason there is none.

    check: raises TrustError for a site that is not to be chosen.
    """
    if graph.updates or graph.stage not in (Stage.QUANTIZED, Stage.PLANNED):
        raise TrustError(
            "only an int8 network that does not learn can be partitioned",
            expected=f"a QUANTIZED graph without state, not {graph.stage.name}",
            hint="a scheme names channels in natural order: partition the inference graph",
        )
    found = list(places(graph))
    if not found:
        raise TrustError(
            "no value carries the whole network: branches run from the inputs to the outputs",
            expected="a layer whose output alone is needed by everything after it",
        )
    if cut is not None:
        return _named(graph, mode, found, cut)
    found.sort(key=lambda p: -_balance(p))
    best: Site | None = None
    refused: list[TrustError] = []
    for place in found:
        if best is not None and _balance(place) <= balance(best):
            break
        try:
            site = site_at(graph, mode, place)
            check(site)
        except TrustError as error:
            refused.append(error)
            continue
        if balance(site) > (balance(best) if best else 0):
            best = site
    if best is None:
        raise refused[0] if refused else _without_parameters(found[0])
    return best


def places(graph: Graph) -> Iterator[Place]:
    """Every value that all paths go through, in order; graph outputs are none."""
    last = {v: i for i, n in enumerate(graph.nodes) for v in n.inputs}
    end = len(graph.nodes)
    last |= dict.fromkeys(graph.outputs, end)
    live = {v for v in graph.inputs if v in last}
    before: Value | None = None
    for i, node in enumerate(graph.nodes):
        live |= {v for v in node.outputs if v in last}
        live = {v for v in live if last[v] > i}
        if len(live) == 1:
            (value,) = live
            if value != before and value not in (*graph.inputs, *graph.outputs):
                yield Place(value, graph.nodes[: i + 1], graph.nodes[i + 1 :])
            before = value


def parameters(nodes: Sequence[Node]) -> int:
    """Weights and biases; multipliers, shifts and tables are derived from them."""
    return sum(v.type.elements for n in nodes if n.op.name in WEIGHTED for v in n.inputs[1:3])


def balance(site: Site) -> int:
    """Parameters of the side an attacker relearns: the smaller one."""
    return min(parameters(site.place.above), parameters(site.locked_nodes))


def site_at(graph: Graph, mode: Mode, place: Place) -> Site:
    """The mode at a place. Raises TrustError saying why it does not work there."""
    if mode == "coreguard-otp":
        return _linear_site(graph, place)
    bridge, layer = _bridge(graph, place) if mode == "withhold" else ((), None)
    classes = find_classes(graph, place.below, [place.value], graph.outputs)
    site = _site(place, place.value, bridge, layer, classes, place.below)
    reads = len(site.bridge_values(graph))
    if reads > MAX_INPUTS:
        raise TrustError(
            f"the bridge to %{place.value.name} reads {reads} values",
            expected=f"{MAX_INPUTS} at most",
        )
    return site


def _site(
    place: Place,
    locked: Value,
    bridge: tuple[Node, ...],
    layer: Node | None,
    classes: Classes,
    below: Sequence[Node],
) -> Site:
    """Checks that the order of `locked` is free and large enough."""
    free = classes.free(classes.channels(locked))
    if not free:
        raise TrustError(
            f"the channels of %{locked.name} must stay in natural order: their readers need it",
            hint="choose another cut",
        )
    if max(c.size for c in free) < MIN_CHANNELS:
        raise TrustError(
            f"%{locked.name} has too few channels to hide their order",
            expected=f"{MIN_CHANNELS} or more, not {max(c.size for c in free)}",
        )
    names = {name for (name, _), axes in classes.constants.items() if any(map(classes.free, axes))}
    return Site(place, locked, bridge, layer, classes, tuple(n for n in below if n.name in names))


def _bridge(graph: Graph, place: Place) -> tuple[tuple[Node, ...], Node]:
    """The last nodes that make the value, back to one layer with weights."""
    bridge = [graph.producer[place.value]]
    while bridge[-1].op.name not in WEIGHTED:
        node = bridge[-1]
        above = [
            graph.producer[v]
            for v in graph.activations(node)
            if v in graph.producer and graph.sole_consumer(v) is node
        ]
        layers = [n for n in above if n.op.name in WEIGHTED]
        follow = max(layers, key=lambda n: parameters([n]), default=above[0] if above else None)
        if node.op.name not in _AFTER_LAYER or follow is None:
            raise TrustError(
                f"nothing to withhold before %{place.value.name}: {node.op.name} %{node.name} "
                "makes it",
                expected="a layer with weights, then an add, a pool or a table",
                hint="choose another cut, or --trust permute",
            )
        bridge.append(follow)
    layer = bridge[-1]
    if not all(graph.is_constant(v) for v in layer.inputs[1:]):
        raise TrustError(f"the weights of {layer.op.name} %{layer.name} are computed")
    if getattr(layer.attrs, "groups", 1) > 1:
        raise TrustError(
            f"%{layer.name} is a depthwise or grouped layer: its few weights are soon relearned",
            expected="a layer that mixes channels",
        )
    return tuple(bridge[::-1]), layer


def _linear_site(graph: Graph, place: Place) -> Site:
    """The layer that reads the value and runs on blinded integers."""
    refused = TrustError(
        f"no layer that reads %{place.value.name} can run on blinded integers",
        expected="a convolution or dense layer with constant weights",
        hint="choose another cut, or --trust withhold",
    )
    sites: list[Site] = []
    for node in place.below:
        if not _is_linear_reader(graph, node, place.value):
            continue
        rest = tuple(n for n in place.below if n is not node)
        classes = find_classes(graph, rest, [node.outputs[0]], graph.outputs)
        try:
            if place.value.type.shape[-1] < MIN_CHANNELS:
                raise TrustError(f"%{place.value.name} has too few channels to hide their order")
            sites.append(_site(place, node.outputs[0], (node,), node, classes, rest))
        except TrustError as error:
            refused = error
    if not sites:
        raise refused
    return max(sites, key=lambda s: parameters(s.bridge))


def _is_linear_reader(graph: Graph, node: Node, value: Value) -> bool:
    if node.op.name not in WEIGHTED or node.inputs[0] != value:
        return False
    groups = getattr(node.attrs, "groups", 1)
    single = node.inputs[1].type.shape[-1] == 1
    constant = all(graph.is_constant(v) for v in node.inputs[1:])
    return constant and (groups == 1 or single) and node.outputs[0] not in graph.outputs


def _named(graph: Graph, mode: Mode, found: Sequence[Place], cut: str) -> Site:
    by_name: dict[str, Place] = {}
    for place in found:
        node = graph.producer[place.value]
        for name in (node.origin.onnx_name, *node.origin.onnx_name.split(";"), place.value.name):
            by_name[name] = place
    if cut not in by_name:
        names = [p.value.name for p in found]
        close = difflib.get_close_matches(cut, by_name, n=3, cutoff=0.4)
        raise TrustError(
            f"the network cannot be cut at {cut!r}",
            expected=", ".join(close or names[:8]),
            hint="only a layer whose output alone is needed by everything after it",
        )
    return site_at(graph, mode, by_name[cut])


def _balance(place: Place) -> int:
    return min(parameters(place.above), parameters(place.below))


def _without_parameters(place: Place) -> TrustError:
    return TrustError(
        f"one side of %{place.value.name} has no weights: nothing would be locked",
        expected="layers with weights on both sides of a cut",
    )

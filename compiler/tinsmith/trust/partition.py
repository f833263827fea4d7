"""Split a network into what the non-secure image holds and what stays in the secure one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..errors import CompileError
from ..ir.dtypes import Array
from ..ir.graph import Graph, Node, Origin, Stage, Value
from ..ir.rewrite import Rewriter
from ..ir.verify import verify
from ..ops import get
from ..ops.authorize import AuthorizeAttrs
from .axes import Free
from .classes import find_classes
from .cut import MODES, Mode, Site, choose, parameters
from .keystream import check_key, permutation
from .permute_channels import permute_channels

NAME = "partition_trust"


@dataclass(frozen=True)
class Cut:
    """What was chosen, for reports; nothing of it is secret.

    value: the last value in natural order, or in `withhold` the first in secret order. channels: of
    the value that leaves the gateway. bridge: names of the nodes of the secure world. parameters_…:
    weights and biases of the network before the cut (with the bridge), in the bridge, after the
    cut, and of those the ones that are permuted. classes: permutations drawn.
    """

    value: str
    channels: int
    bridge: tuple[str, ...]
    parameters_above: int
    parameters_withheld: int
    parameters_below: int
    parameters_locked: int
    classes: int


@dataclass(frozen=True)
class Partition:
    """The two worlds. secure[k] answers the `authorize` node with call = k."""

    mode: Mode
    nonsecure: Graph
    secure: tuple[Graph, ...]
    cut: Cut


def partition(graph: Graph, mode: str, key: bytes, cut: str | None = None) -> Partition:
    """Lock a lowered QUANTIZED graph.

    Args:
        mode: "withhold", "permute" or "coreguard-otp" (docs/trust.md).
        key: 32 bytes; the same key gives the same partition.
        cut: name of the node after which to cut, instead of the best place.

    Raises CompileError for an unknown mode or a bad key, TrustError where the network has no legal
    cut, or not that one.
    """
    known: Mode | None = next((m for m in MODES if m == mode), None)
    if known is None:
        raise CompileError(f"unknown trust mode {mode!r}", expected=", ".join(MODES))
    check_key(key)
    site = choose(graph, known, cut)
    drawn = _draw(site, key)
    make = {"withhold": _withhold, "permute": _permute}[known]
    nonsecure, secure = make(graph, site, drawn)
    for part in (nonsecure, *secure):
        verify(part, f"after {NAME}")
    return Partition(known, nonsecure, secure, _report(site))


def _draw(site: Site, key: bytes) -> Callable[[Free], Array]:
    """The permutation of every class: a stream of the key for each."""
    numbers = {c: i for i, c in enumerate(site.classes.all())}
    orders = {c: permutation(key, f"channels/{i}", c.size) for c, i in numbers.items()}
    return orders.__getitem__


def _report(site: Site) -> Cut:
    return Cut(
        site.place.value.name,
        site.locked.type.shape[-1],
        tuple(n.name for n in site.bridge),
        parameters(site.place.above),
        parameters(site.bridge),
        parameters(site.place.below),
        parameters(site.locked_nodes),
        len(site.classes.all()),
    )


def _withhold(
    graph: Graph, site: Site, drawn: Callable[[Free], Array]
) -> tuple[Graph, tuple[Graph, ...]]:
    rewriter = Rewriter(graph, NAME)
    for node in site.place.above:
        if node not in site.bridge:
            rewriter.keep(node)
    value = site.locked
    _authorize(rewriter, 0, site.bridge_values(graph), value, site.bridge[-1].origin)
    permute_channels(graph, site.place.below, site.classes, drawn, rewriter)
    order = site.classes.order(site.classes.channels(value), drawn)
    return _finish(rewriter), (_bridge_graph(graph, site, order),)


def _bridge_graph(graph: Graph, site: Site, order: Array | None) -> Graph:
    """The bridge as a graph whose output has the order: in its weights where they can have it."""
    inputs = site.bridge_values(graph)
    part = replace(
        graph, name=f"{graph.name}_gate0", inputs=inputs, outputs=(site.locked,),
        nodes=site.bridge, input_layouts=(), output_layouts=(),
    )  # fmt: skip
    rewriter = Rewriter(part, NAME)
    classes = find_classes(part, site.bridge, (), ())
    channels = classes.channels(site.locked)
    natural = np.arange(site.locked.type.shape[-1])
    order = natural if order is None else order
    if isinstance(channels, Free):

        def drawn(c: Free) -> Array:
            return order if c == channels else np.arange(c.size)

        permute_channels(part, site.bridge, classes, drawn, rewriter)
        return rewriter.finish(stage=Stage.QUANTIZED)
    for node in site.bridge:
        rewriter.keep(node)
    rewriter.rename(site.locked, _permuted(rewriter, site.locked, order, site.bridge[-1].origin))
    return rewriter.finish(stage=Stage.QUANTIZED)


def _permute(
    graph: Graph, site: Site, drawn: Callable[[Free], Array]
) -> tuple[Graph, tuple[Graph, ...]]:
    value = site.locked
    origin = graph.producer[value].origin
    rewriter = Rewriter(graph, NAME)
    for node in site.place.above:
        rewriter.keep(node)
    authorized = Value(rewriter.unique(f"{value.name}.authorized"), value.type)
    _authorize(rewriter, 0, [value], authorized, origin)
    rewriter.rename(value, authorized)
    permute_channels(graph, site.place.below, site.classes, drawn, rewriter)
    order = site.classes.order(site.classes.channels(value), drawn)
    order = np.arange(value.type.shape[-1]) if order is None else order
    gate = Rewriter(_gate(graph, 0, [value]), NAME)
    output = _permuted(gate, value, order, origin)
    return _finish(rewriter), (gate.finish(outputs=(output,)),)


def _gate(graph: Graph, call: int, inputs: Sequence[Value]) -> Graph:
    """An empty secure graph."""
    return Graph(f"{graph.name}_gate{call}", tuple(inputs), (), {}, (), Stage.QUANTIZED)


def _permuted(rewriter: Rewriter, value: Value, order: Array, origin: Origin) -> Value:
    """The value with its last axis in the order."""
    constant = rewriter.constant(f"{value.name}.order", order.astype(np.int32))
    output = Value(rewriter.unique(f"{value.name}.locked"), value.type)
    rewriter.emit(get("permute_channels"), [value, constant], origin=origin, outputs=[output])
    return output


def _authorize(
    rewriter: Rewriter, call: int, inputs: Sequence[Value], output: Value, origin: Origin
) -> None:
    attrs = AuthorizeAttrs(call, output.type.shape, output.type.dtype.value)
    rewriter.emit(get("authorize"), inputs, attrs, origin=origin, outputs=[output])


def _finish(rewriter: Rewriter) -> Graph:
    return rewriter.finish(stage=Stage.PARTITIONED)


def join(parts: Partition) -> Graph:
    """The authorised network: the secure graphs back in the place of the `authorize` nodes."""
    rewriter = Rewriter(parts.nonsecure, "join_trust")
    for node in parts.nonsecure.nodes:
        if node.op.name == "authorize":
            _inline(parts.secure[node.attrs.call], node, rewriter)
        else:
            rewriter.keep(node)
    joined = rewriter.finish(stage=Stage.QUANTIZED)
    verify(joined, "after join_trust")
    return joined


def _inline(secure: Graph, call: Node, rewriter: Rewriter) -> None:
    """The nodes of a secure graph, under names of their own."""
    known = dict(zip(secure.inputs, call.inputs, strict=True))
    for value, array in secure.initializers.items():
        known[value] = rewriter.constant(value.name, array, value.type.quant)
    for node in secure.nodes:
        for value in node.outputs:
            last = value == secure.outputs[0]
            known[value] = (
                call.outputs[0] if last else Value(rewriter.unique(value.name), value.type)
            )
        rewriter.emit(
            node.op, [known[v] for v in node.inputs], node.attrs, origin=node.origin,
            outputs=[known[v] for v in node.outputs],
        )  # fmt: skip

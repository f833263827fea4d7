"""The graphs of both worlds for the modes `withhold` and `permute`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from ..ir.dtypes import Array
from ..ir.graph import Graph, Origin, Stage, Value
from ..ir.rewrite import Rewriter
from ..ops import get
from ..ops.authorize import AuthorizeAttrs
from .axes import Free
from .classes import find_classes
from .cut import Site
from .keystream import Secret
from .permute_channels import permute_channels

NAME = "partition_trust"
Worlds: TypeAlias = tuple[Graph, tuple[Graph, ...]]  # non-secure, and a secure graph per call


def withhold(graph: Graph, site: Site, secret: Secret) -> Worlds:
    """The bridge goes to the secure world; its output is in the order of the value's class."""
    rewriter = Rewriter(graph, NAME)
    for node in site.place.above:
        if node not in site.bridge:
            rewriter.keep(node)
    value = site.locked
    insert_authorization(rewriter, 0, site.bridge_values(graph), value, site.bridge[-1].origin)
    permute_channels(graph, site.place.below, site.classes, secret.order, rewriter)
    return finish(rewriter), (_bridge_graph(graph, site, locked_order(site, secret)),)


def permute(graph: Graph, site: Site, secret: Secret) -> Worlds:
    """The secure world puts the channels into the order, and does nothing else."""
    value = site.locked
    origin = graph.producer[value].origin
    rewriter = Rewriter(graph, NAME)
    for node in site.place.above:
        rewriter.keep(node)
    authorized = Value(rewriter.unique(f"{value.name}.authorized"), value.type)
    insert_authorization(rewriter, 0, [value], authorized, origin)
    rewriter.rename(value, authorized)
    permute_channels(graph, site.place.below, site.classes, secret.order, rewriter)
    gate = Rewriter(gate_graph(graph, 0, [value]), NAME)
    output = _permuted(gate, value, locked_order(site, secret), origin)
    return finish(rewriter), (gate.finish(outputs=(output,)),)


def insert_authorization(
    rewriter: Rewriter, call: int, inputs: Sequence[Value], output: Value, origin: Origin
) -> None:
    """The node that asks the secure world for `output`."""
    attrs = AuthorizeAttrs(call, output.type.shape, output.type.dtype.value)
    rewriter.emit(get("authorize"), inputs, attrs, origin=origin, outputs=[output])


def gate_graph(graph: Graph, call: int, inputs: Sequence[Value]) -> Graph:
    """A secure graph without nodes yet."""
    return Graph(f"{graph.name}_gate{call}", tuple(inputs), (), {}, (), Stage.QUANTIZED)


def locked_order(site: Site, secret: Secret) -> Array:
    """int64: the natural channel at every position of the value that leaves the gateway."""
    order = site.classes.order(site.classes.channels(site.locked), secret.order)
    return np.arange(site.locked.type.shape[-1]) if order is None else order


def bridge_carries_order(graph: Graph, site: Site) -> bool:
    """Whether the order is in the bridge's own constants, so that nothing need be moved."""
    part = _bridge_part(graph, site)
    return isinstance(find_classes(part, site.bridge, (), ()).channels(site.locked), Free)


def finish(rewriter: Rewriter) -> Graph:
    """The non-secure graph."""
    return rewriter.finish(stage=Stage.PARTITIONED)


def _bridge_graph(graph: Graph, site: Site, order: Array) -> Graph:
    """The bridge as a graph whose output has the order: in its weights where they can have it."""
    part = _bridge_part(graph, site)
    rewriter = Rewriter(part, NAME)
    classes = find_classes(part, site.bridge, (), ())
    channels = classes.channels(site.locked)
    if isinstance(channels, Free):

        def drawn(c: Free) -> Array:
            return order if c == channels else np.arange(c.size)

        permute_channels(part, site.bridge, classes, drawn, rewriter)
        return rewriter.finish()
    for node in site.bridge:
        rewriter.keep(node)
    rewriter.rename(site.locked, _permuted(rewriter, site.locked, order, site.bridge[-1].origin))
    return rewriter.finish()


def _bridge_part(graph: Graph, site: Site) -> Graph:
    return replace(
        gate_graph(graph, 0, site.bridge_values(graph)),
        outputs=(site.locked,),
        nodes=site.bridge,
        initializers=graph.initializers,
    )


def _permuted(rewriter: Rewriter, value: Value, order: Array, origin: Origin) -> Value:
    """The value with its last axis in the order."""
    constant = rewriter.constant(f"{value.name}.order", order.astype(np.int32))
    output = Value(rewriter.unique(f"{value.name}.locked"), value.type)
    rewriter.emit(get("permute_channels"), [value, constant], origin=origin, outputs=[output])
    return output

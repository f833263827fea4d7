"""Split a network into what the non-secure image holds and what stays in the secure one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import CompileError
from ..ir.graph import Graph, Node, Stage, Value
from ..ir.rewrite import Rewriter
from ..ir.verify import verify
from .blinding import blinded
from .cut import MODES, Mode, Site, choose, parameters
from .keystream import Secret, check_key
from .worlds import NAME, Worlds, permute, withhold


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


_MAKERS: Mapping[Mode, Callable[[Graph, Site, Secret], Worlds]] = {
    "withhold": withhold,
    "permute": permute,
    "coreguard-otp": blinded,
}


def partition(graph: Graph, mode: str, key: bytes, cut: str | None = None) -> Partition:
    """Lock a lowered QUANTIZED graph.

    Args:
        mode: "withhold", "permute" or "coreguard-otp" (docs/trust.md).
        key: 32 bytes; the same key gives the same partition.
        cut: name of the node after which to cut, instead of the best place.

    Raises CompileError for an unknown mode or a bad key, TrustError where the network has no legal
    cut, or not that one.
    """
    known = known_mode(mode)
    check_key(key)
    site = choose(graph, known, cut)
    secret = Secret(key, site.classes.all())
    nonsecure, secure = _MAKERS[known](graph, site, secret)
    for part in (nonsecure, *secure):
        verify(part, f"after {NAME}")
    return Partition(known, nonsecure, secure, _report(site))


def known_mode(mode: str) -> Mode:
    """Raises CompileError for a mode that there is not."""
    known: Mode | None = next((m for m in MODES if m == mode), None)
    if known is None:
        raise CompileError(f"unknown trust mode {mode!r}", expected=", ".join(MODES))
    return known


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


def join(parts: Partition, seed: int = 0) -> Graph:
    """The authorised network: the secure graphs back in the place of the `authorize` nodes.

    seed: of the one-time pad, which is a constant here; the outputs do not depend on it.
    """
    return join_graphs(parts.nonsecure, parts.secure, seed)


def join_graphs(nonsecure: Graph, secure: Sequence[Graph], seed: int = 0) -> Graph:
    """`join` of graphs that were read from a project, or of one that learns."""
    rewriter = Rewriter(nonsecure, "join_trust")
    pads: dict[Value, Value] = {}
    for node in nonsecure.nodes:
        if node.op.name == "authorize":
            _inline(secure[node.attrs.call], node, rewriter, pads, seed)
        else:
            rewriter.keep(node)
    joined = rewriter.finish(stage=Stage.TRAINING if nonsecure.updates else Stage.QUANTIZED)
    verify(joined, "after join_trust")
    return joined


def _inline(
    secure: Graph, call: Node, rewriter: Rewriter, pads: dict[Value, Value], seed: int
) -> None:
    """The nodes of a secure graph, under names of their own; its pad is that of the other one."""
    known = dict(zip(secure.inputs, call.inputs, strict=False))
    for value in secure.inputs[len(call.inputs) :]:
        if value not in pads:
            drawn = np.random.default_rng(seed).integers(
                -(2**31), 2**31, value.type.shape, np.int32
            )
            pads[value] = rewriter.constant(value.name, drawn)
        known[value] = pads[value]
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

"""An operator and what follows it that the passes may fuse into it: `conv2d → reshape* → node`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..ir.graph import Graph, Node, Value
from ..ir.rewrite import Rewriter


@dataclass(frozen=True)
class Chain:
    """head: the operator to fuse into; views: reshapes between it and the fused node."""

    head: Node
    views: tuple[Node, ...]

    @property
    def nodes(self) -> tuple[Node, ...]:
        return (self.head, *self.views)

    def channel_axis(self) -> int | None:
        """Where the head's output channels are at the chain's end; None: on no axis of theirs."""
        shape = self.head.y.shape
        last = self.head.op.name == "dense" or self.head.attrs.layout == "NHWC"
        axis = len(shape) - 1 if last else 1
        for view in self.views:
            before, after = shape, view.y.shape
            outer, size = math.prod(before[:axis]), before[axis]
            kept = [i for i, d in enumerate(after) if d == size and math.prod(after[:i]) == outer]
            if not kept:
                return None
            shape, axis = after, kept[0]
        return axis


def chain_above(graph: Graph, node: Node, heads: Sequence[str], index: int = 0) -> Chain | None:
    """The chain that ends at input `index` of `node`; None if anything in it has another reader."""
    views: list[Node] = []
    value = node.inputs[index]
    while (maker := graph.producer.get(value)) and graph.sole_consumer(value):
        if maker.op.name in heads:
            return Chain(maker, tuple(reversed(views)))
        if maker.op.name != "reshape":
            return None
        views.append(maker)
        value = maker.inputs[0]
    return None


def emit_chain(
    rewriter: Rewriter,
    chain: Chain,
    inputs: Sequence[Value],
    attrs: Any,
    outputs: tuple[Value, ...],
) -> None:
    """The chain with new inputs and attributes of its head; its end defines `outputs`."""
    last = outputs if not chain.views else chain.head.outputs
    rewriter.emit(chain.head.op, inputs, attrs, origin=chain.head.origin, outputs=last)
    for i, view in enumerate(chain.views):
        last = outputs if i == len(chain.views) - 1 else view.outputs
        rewriter.emit(view.op, view.inputs, view.attrs, origin=view.origin, outputs=last)

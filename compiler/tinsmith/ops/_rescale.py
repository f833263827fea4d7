"""The lowered form of operators that sum: a multiplier and a shift per channel as inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..ir.dtypes import Array
from ..ir.graph import Node
from ..ir.rewrite import Rewriter
from ..quant.arithmetic import quantize_clamp, quantize_multipliers


def emit_rescaled(node: Node, factors: Sequence[float] | Array, rewriter: Rewriter) -> None:
    """The node with the multipliers and shifts of real `factors` appended, and its `q_clamp`."""
    multiplier, shift = quantize_multipliers(factors)
    constants = [
        rewriter.constant(f"{node.name}.multiplier", multiplier),
        rewriter.constant(f"{node.name}.shift", shift),
    ]
    attrs = replace(node.attrs, q_clamp=quantize_clamp(node.attrs.clamp, node.y))
    inputs = [*node.inputs, *constants]
    rewriter.emit(node.op, inputs, attrs, origin=node.origin, outputs=node.outputs)


def lower_weighted(node: Node, rewriter: Rewriter) -> None:
    """`lower` of conv2d and dense: the factor of a channel is s_x·s_w / s_y."""
    x, w, _ = node.inputs
    quant = w.type.quant
    assert quant is not None
    scales = np.broadcast_to(np.asarray(quant.scale), (w.type.shape[0],))
    emit_rescaled(node, scales * x.type.scale / node.y.scale, rewriter)

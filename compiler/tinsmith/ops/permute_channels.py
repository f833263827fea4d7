"""permute_channels: the last axis in another order, y[…, i] = x[…, order[i]]."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..ir.dtypes import Array, DType, TensorType
from ..ir.graph import Node
from ..ir.opdef import Absent, Case, IntegerRule, NoAttrs, OpDef, no_macs
from ..ir.rewrite import Rewriter
from ._gradient import Gradient, GradientContext, one_gradient


def infer(types: Sequence[TensorType], attrs: NoAttrs) -> Sequence[TensorType]:
    del attrs
    x, order = types
    if x.rank < 1 or order.dtype is not DType.INT32 or order.shape != x.shape[-1:]:
        raise ValueError(f"takes a tensor and the order of its last axis, not {x} and {order}")
    return (x,)


def reference(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """x [..., C] of any dtype, order int32 [C], a permutation of 0 … C − 1."""
    del node
    x, order = arrays
    return (np.ascontiguousarray(x[..., order]),)


def lower(node: Node, rewriter: Rewriter) -> None:
    """Already lowered."""
    rewriter.keep(node)


def gradient(node: Node, gradients: Sequence[Gradient | None], context: GradientContext) -> None:
    """dy in the order that x has."""
    dy, (x, order) = one_gradient(gradients), node.inputs
    back = np.argsort(context.array(order)).astype(np.int32)
    inverse = context.constant(f"{order.name}.inverse", back)
    (dx,) = context.emit("permute_channels", [dy.value, inverse], None, f"{x.name}.gradient")
    context.add(x, dx, dy.factor)


_MADE_HERE = Absent("the trusted partition makes it; no ONNX operator is like it")

OP = OpDef(
    name="permute_channels",
    attrs=NoAttrs,
    infer=infer,
    reference=reference,
    integer=IntegerRule(lower=lower, reference=reference, output="as_input"),
    macs=no_macs,
    onnx_import=_MADE_HERE,
    onnx_export=_MADE_HERE,
    cases=(
        Case("image", ((1, 3, 5, 6),), params=(np.array([3, 0, 5, 1, 4, 2], np.int32),)),
        Case("vector", ((2, 5),), params=(np.array([4, 3, 2, 1, 0], np.int32),)),
    ),
    gradient=gradient,
)

"""mul: elementwise product with numpy broadcasting, a fused clamp; also division by constants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..ir.dtypes import Array
from ..ir.graph import Node, Value
from ..ir.opdef import IntegerRule, OpDef
from ..ir.rewrite import Rewriter
from ..quant.arithmetic import quantize_clamp, quantize_multiplier, requantize, saturate
from . import _binary, _gradient_rules
from ._clamp import INF, UNBOUNDED, Clamp
from ._onnx import ImportContext, OnnxNode


@dataclass(frozen=True)
class MulAttrs:
    """clamp: real bounds of a fused activation. Lowered: multiplier, shift of s1·s2 / s_y."""

    clamp: Clamp = UNBOUNDED
    q_clamp: tuple[int, int] = (-128, 127)
    multiplier: int = 0
    shift: int = 0


def integer_reference(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """clamp(requantize((x1 − z1)·(x2 − z2)) + z_y)."""
    attrs: MulAttrs = node.attrs
    x1, x2 = (
        a.astype(np.int64) - v.type.zero_point for a, v in zip(arrays, node.inputs, strict=True)
    )
    y = requantize(x1 * x2, attrs.multiplier, attrs.shift) + node.y.zero_point
    return (saturate(y, *attrs.q_clamp),)


def lower(node: Node, rewriter: Rewriter) -> None:
    """Sets the multiplier and shift."""
    x1, x2 = _binary.require_per_tensor(node)
    multiplier, shift = quantize_multiplier(x1.scale * x2.scale / node.y.scale)
    attrs = replace(
        node.attrs,
        q_clamp=quantize_clamp(node.attrs.clamp, node.y),
        multiplier=multiplier,
        shift=shift,
    )
    rewriter.emit(OP, node.inputs, attrs, origin=node.origin, outputs=node.outputs)


def import_div(node: OnnxNode, out: ImportContext) -> Sequence[Value]:
    """x / constant as x · (1 / constant)."""
    divisor = out.array(node.x(1))
    if divisor is None:
        node.fail("division by a computed tensor is not supported; by a constant it is")
    if not np.issubdtype(divisor.dtype, np.floating):
        node.fail("integer division of computed tensors is not supported")
    if np.any(divisor == 0):
        node.fail("it divides by zero")
    reciprocal = out.constant("reciprocal", (1 / divisor).astype(np.float32))
    return out.emit(OP, [node.x(0), reciprocal])


OP = OpDef(
    name="mul",
    attrs=MulAttrs,
    infer=_binary.infer,
    reference=_binary.float_reference(np.multiply),
    integer=IntegerRule(lower=lower, reference=integer_reference),
    macs=_binary.elementwise_operations,
    onnx_import={"Mul": _binary.importer("mul"), "Div": import_div},
    onnx_export=_binary.exporter("Mul"),
    cases=_binary.shared_cases(MulAttrs(clamp=(0.0, INF))),
    gradient=_gradient_rules.product,
)

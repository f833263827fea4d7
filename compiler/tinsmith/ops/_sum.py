"""The int8 meaning that add and sub share: y = clamp((x1·a + x2·b + c) >> n)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..errors import CompileError
from ..ir.dtypes import Array
from ..ir.graph import Node
from ..ir.opdef import IntegerRule
from ..ir.rewrite import Rewriter
from ..quant.arithmetic import quantize_clamp, saturate, sum_constants
from ._binary import require_per_tensor
from ._clamp import UNBOUNDED, Clamp


@dataclass(frozen=True)
class SumAttrs:
    """clamp: real bounds of a fused activation; the rest is set by lowering.

    a, b, c, n: see `quant.arithmetic.SumConstants`; b carries the sign of sub.
    differing: input pairs, of 65,536, that are 1 LSB off the correctly rounded sum.
    """

    clamp: Clamp = UNBOUNDED
    q_clamp: tuple[int, int] = (-128, 127)
    a: int = 0
    b: int = 0
    c: int = 0
    n: int = 0
    differing: int = 0


def integer_reference(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """int8 operands, broadcast; every intermediate fits int32."""
    attrs: SumAttrs = node.attrs
    x1, x2 = (v.astype(np.int64) for v in arrays)
    return (saturate((x1 * attrs.a + x2 * attrs.b + attrs.c) >> attrs.n, *attrs.q_clamp),)


def integer_rule(sign: int) -> IntegerRule:
    """The rule of x1 + sign·x2."""

    def lower(node: Node, rewriter: Rewriter) -> None:
        x1, x2 = require_per_tensor(node)
        try:
            k = sum_constants(x1, x2, node.y, sign)
        except ValueError as error:
            raise CompileError(str(error), node=str(node.origin)) from error
        low, high = quantize_clamp(node.attrs.clamp, node.y)
        attrs = replace(
            node.attrs, q_clamp=(low, high), a=k.a, b=k.b, c=k.c, n=k.n, differing=k.differing
        )
        rewriter.emit(node.op, node.inputs, attrs, origin=node.origin, outputs=node.outputs)

    return IntegerRule(lower=lower, reference=integer_reference)

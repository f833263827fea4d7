"""lookup: y = table[x + 128]; what every unary function of an int8 value becomes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..ir.dtypes import Array, DType, TensorType
from ..ir.graph import Node
from ..ir.opdef import Absent, Case, IntegerRule, NoAttrs, OpDef, no_macs
from ..ir.rewrite import Rewriter
from . import _gradient_rules

_ENTRIES = 256


def infer(types: Sequence[TensorType], attrs: NoAttrs) -> Sequence[TensorType]:
    del attrs
    x, table = types
    if x.dtype is not DType.INT8 or table.dtype is not DType.INT8 or table.shape != (_ENTRIES,):
        raise ValueError(f"takes an int8 tensor and int8[{_ENTRIES}], not {x} and {table}")
    return (TensorType(x.shape, DType.INT8),)


def reference(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """table[x + 128], int8."""
    del node
    x, table = arrays
    return (table[x.astype(np.int64) + 128],)


def lower(node: Node, rewriter: Rewriter) -> None:
    """Already lowered."""
    rewriter.keep(node)


_MADE_HERE = "lower_requantize makes it from unary functions; no ONNX operator is like it"
_TABLE = np.array([(i * 37 + 11) % 256 - 128 for i in range(_ENTRIES)], np.int8)

OP = OpDef(
    name="lookup",
    attrs=NoAttrs,
    infer=infer,
    reference=reference,
    integer=IntegerRule(lower=lower, reference=reference),
    macs=no_macs,
    onnx_import=Absent(_MADE_HERE),
    onnx_export=Absent(_MADE_HERE),
    cases=(Case("permutation", ((1, 5, 7, 3),), params=(_TABLE,)),),
    gradient=_gradient_rules.lookup,
)

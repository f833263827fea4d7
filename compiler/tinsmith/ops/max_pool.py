"""Max pooling over height and width; GlobalMaxPool is a window as large as the input.

Padding never wins: it counts as −∞ (−128 in int8). Quantised, the output has the input's scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..ir.dtypes import Array, TensorType
from ..ir.graph import Node, Value
from ..ir.opdef import Case, IntegerRule, OpDef
from ..ir.rewrite import Rewriter
from ..quant.arithmetic import quantize_clamp, saturate
from . import _gradient_rules
from ._clamp import INF, apply_clamp
from ._movement import lower_movement
from ._onnx import ExportContext, ImportContext, OnnxNode
from ._pool import (
    PoolAttrs,
    emit_2d,
    export_pool,
    import_pool,
    in_layout,
    infer_pool,
    pool_macs,
    window_count,
)
from ._window import patches


@dataclass(frozen=True)
class MaxPoolAttrs(PoolAttrs):
    """See PoolAttrs."""


def infer(types: Sequence[TensorType], attrs: MaxPoolAttrs) -> Sequence[TensorType]:
    (x,) = types
    return (infer_pool(x, attrs),)


def reference(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """The largest element of each window, clamped; float32."""
    return (apply_clamp(_maximum(node, arrays[0], -INF), node.attrs.clamp),)


def integer_reference(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """The same on int8, clamped to q_clamp."""
    return (saturate(_maximum(node, arrays[0], -128), *node.attrs.q_clamp),)


def lower(node: Node, rewriter: Rewriter) -> None:
    q_clamp = quantize_clamp(node.attrs.clamp, node.x)
    lower_movement(node, rewriter, replace(node.attrs, q_clamp=q_clamp))


def import_max_pool(node: OnnxNode, out: ImportContext) -> Sequence[Value]:
    if node.output_count > 1:
        node.fail("the second output, Indices, is not supported")
    return import_pool(node, out, OP, MaxPoolAttrs)


def import_global(node: OnnxNode, out: ImportContext) -> Sequence[Value]:
    """ONNX GlobalMaxPool over one or two spatial axes."""
    x = node.x(0)
    if x.type.rank not in (3, 4):
        node.fail(f"{x.type.rank - 2}-D pooling is not supported; 1-D and 2-D are")
    height, width = (1, *x.type.shape[2:])[-2:]
    return emit_2d(out, OP, x, MaxPoolAttrs(kernel=(height, width)))


def export(node: Node, out: ExportContext) -> None:
    export_pool(node, out, "MaxPool")


def _maximum(node: Node, x: Array, lowest: float | int) -> Array:
    attrs: MaxPoolAttrs = node.attrs
    if attrs.layout == "NCHW":
        x = x.transpose(0, 2, 3, 1)
    windows = patches(x, attrs.kernel, window_count(node.x, attrs), attrs, lowest)
    return in_layout(windows.max(axis=(3, 4)), attrs)


CASES = (
    Case("2x2", ((1, 4, 8, 6),), MaxPoolAttrs((2, 2), (2, 2))),
    Case("3x3_same_odd", ((1, 3, 7, 9),), MaxPoolAttrs((3, 3), (1, 1), (1, 1, 1, 1))),
    Case(
        "3x3_stride2_relu",
        ((1, 5, 11, 8),),
        MaxPoolAttrs((3, 3), (2, 2), (1, 0, 0, 1), clamp=(0.0, INF)),
    ),
    Case("ceil_mode", ((1, 2, 8, 7),), MaxPoolAttrs((3, 2), (2, 3), ceil_mode=True)),
    Case("dilated", ((1, 3, 9, 10),), MaxPoolAttrs((2, 3), (1, 2), (1, 1, 0, 2), (3, 2))),
    Case("one_dimensional", ((1, 6, 1, 15),), MaxPoolAttrs((1, 4), (1, 3), (0, 1, 0, 2))),
    Case("global", ((1, 7, 5, 3),), MaxPoolAttrs((5, 3))),
    Case(
        "all_negative",
        ((1, 3, 5, 5),),
        MaxPoolAttrs((3, 3), (2, 2), (1, 1, 1, 1)),
        data=(-4.0, -1.0),
    ),
)

OP = OpDef(
    name="max_pool",
    attrs=MaxPoolAttrs,
    infer=infer,
    reference=reference,
    integer=IntegerRule(lower=lower, reference=integer_reference, output="as_input"),
    macs=pool_macs,
    onnx_import={"MaxPool": import_max_pool, "GlobalMaxPool": import_global},
    onnx_export=export,
    cases=CASES,
    gradient=_gradient_rules.max_pool,
)

"""Average pooling over height and width. A window over the whole input is imported as reduce_mean.

Lowered int8: average_pool(x, multiplier[K], shift[K]), one pair per distinct divisor, ascending:
m = s_x / (s_y · divisor), so 1/N and the change of scale are one multiplication with one rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..ir.dtypes import Array, TensorType
from ..ir.graph import Node, Value
from ..ir.opdef import Case, IntegerRule, OpDef
from ..ir.rewrite import Rewriter
from ..quant.arithmetic import requantize, saturate
from . import _gradient_rules
from ._clamp import apply_clamp
from ._onnx import ExportContext, ImportContext, OnnxNode
from ._pool import (
    PoolAttrs,
    export_pool,
    import_pool,
    in_layout,
    infer_pool,
    nhwc,
    pool_macs,
    taps,
    window_count,
)
from ._rescale import emit_rescaled
from ._window import patches


@dataclass(frozen=True)
class AveragePoolAttrs(PoolAttrs):
    """count_include_pad: padding counts in the divisor; what ceil_mode adds beyond it does not."""

    count_include_pad: bool = False


def infer(types: Sequence[TensorType], attrs: AveragePoolAttrs) -> Sequence[TensorType]:
    if len(types) not in (1, 3):
        raise ValueError(f"takes 1 input, or 3 when lowered, not {len(types)}")
    y = infer_pool(types[0], attrs)
    if len(types) == 3:
        kinds = np.unique(window_divisors(types[0], attrs)).size
        if any(t.shape != (kinds,) for t in types[1:]):
            raise ValueError(f"expected {kinds} multipliers and shifts, one per divisor")
    return (y,)


def window_divisors(x: TensorType, attrs: AveragePoolAttrs) -> Array:
    """[OH,OW] number of elements each window's sum is divided by."""
    _, height, width, _ = nhwc(x.shape, attrs)
    counts: list[Array] = []
    for axis, (size, out) in enumerate(zip((height, width), window_count(x, attrs), strict=True)):
        position = taps(size, out, axis, attrs)
        before, after = attrs.pads[axis], attrs.pads[axis + 2]
        low, high = (-before, size + after) if attrs.count_include_pad else (0, size)
        counts.append(((position >= low) & (position < high)).sum(axis=1))
    return np.maximum(np.outer(*counts), 1)


def reference(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """The mean of each window, clamped; float32."""
    attrs: AveragePoolAttrs = node.attrs
    divisors = window_divisors(node.x, attrs)[None, :, :, None].astype(np.float32)
    y = _sum(node, arrays[0]) / divisors
    return (in_layout(apply_clamp(y, attrs.clamp), attrs),)


def integer_reference(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """clamp(requantize(Σ (x − z_x), m[divisor]) + z_y); padding counts as x = z_x."""
    x, multiplier, shift = arrays
    attrs: AveragePoolAttrs = node.attrs
    acc = _sum(node, x.astype(np.int64) - node.x.zero_point)
    divisors = window_divisors(node.x, attrs)
    kind = np.searchsorted(np.unique(divisors), divisors)[None, :, :, None]
    y = requantize(acc, multiplier[kind], shift[kind]) + node.y.zero_point
    return (in_layout(saturate(y, *attrs.q_clamp), attrs),)


def lower(node: Node, rewriter: Rewriter) -> None:
    """A factor per divisor, s_x / (s_y · divisor)."""
    divisors = np.unique(window_divisors(node.x, node.attrs))
    emit_rescaled(node, node.x.scale / (node.y.scale * divisors), rewriter)


def import_average_pool(node: OnnxNode, out: ImportContext) -> Sequence[Value]:
    include = bool(node.attr("count_include_pad", 0))
    x = node.x(0)
    window = tuple(node.attr("kernel_shape", ()))
    if window == x.type.shape[2:] and not any(node.attr("pads", ())):
        mean = out.op("reduce_mean")
        return out.emit(mean, [x], mean.attrs(tuple(range(2, x.type.rank)), True))

    def attrs_of(**fields: Any) -> AveragePoolAttrs:
        attrs = AveragePoolAttrs(**fields, count_include_pad=include)
        # Without padding both ways of counting agree: one form, so equal kernels are shared.
        return attrs if any(attrs.pads) else replace(attrs, count_include_pad=False)

    return import_pool(node, out, OP, attrs_of)


def export(node: Node, out: ExportContext) -> None:
    export_pool(node, out, "AveragePool", count_include_pad=int(node.attrs.count_include_pad))


def _sum(node: Node, x: Array) -> Array:
    """[N,OH,OW,C] sums."""
    attrs: AveragePoolAttrs = node.attrs
    if attrs.layout == "NCHW":
        x = x.transpose(0, 2, 3, 1)
    windows = patches(x, attrs.kernel, window_count(node.x, attrs), attrs, 0)
    return windows.sum(axis=(3, 4), dtype=x.dtype)


CASES = (
    Case("2x2", ((1, 4, 8, 6),), AveragePoolAttrs((2, 2), (2, 2))),
    Case(
        "3x3_border",
        ((1, 3, 7, 9),),
        AveragePoolAttrs((3, 3), (1, 1), (1, 1, 1, 1)),
        data=(-1.0, 3.0),
    ),
    Case(
        "3x3_border_counts",
        ((1, 3, 7, 9),),
        AveragePoolAttrs((3, 3), (2, 1), (1, 1, 1, 1), count_include_pad=True),
        data=(-1.0, 3.0),
    ),
    Case(
        "relu6_uneven_pads",
        ((1, 5, 11, 8),),
        AveragePoolAttrs((3, 2), (2, 2), (1, 0, 0, 1), clamp=(0.0, 6.0)),
        data=(-9.0, 9.0),
    ),
    Case("ceil_mode", ((1, 2, 8, 7),), AveragePoolAttrs((3, 2), (2, 3), ceil_mode=True)),
    Case(
        "ceil_mode_counts",
        ((1, 2, 8, 8),),
        AveragePoolAttrs((3, 3), (2, 2), (1, 1, 1, 1), ceil_mode=True, count_include_pad=True),
        data=(0.5, 2.0),
    ),
    Case("one_dimensional", ((1, 6, 1, 15),), AveragePoolAttrs((1, 4), (1, 3), (0, 1, 0, 2))),
    Case("5x5_offset", ((1, 8, 12, 12),), AveragePoolAttrs((5, 5), (5, 5)), data=(3.0, 5.0)),
)

OP = OpDef(
    name="average_pool",
    attrs=AveragePoolAttrs,
    infer=infer,
    reference=reference,
    integer=IntegerRule(lower=lower, reference=integer_reference),
    macs=pool_macs,
    onnx_import={"AveragePool": import_average_pool},
    onnx_export=export,
    cases=CASES,
    gradient=_gradient_rules.average_pool,
)

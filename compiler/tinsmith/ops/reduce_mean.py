"""The mean over any axes; GlobalAveragePool is the mean over the spatial ones.

Lowered int8: reduce_mean(x, multiplier[1], shift[1]) with m = s_x / (s_y · N).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..ir.dtypes import Array, TensorType
from ..ir.graph import Node, Value
from ..ir.opdef import Case, IntegerRule, OpDef
from ..ir.rewrite import Rewriter
from ..quant.arithmetic import requantize, saturate
from . import _gradient_rules
from ._clamp import INF, UNBOUNDED, Clamp, apply_clamp, export_clamped
from ._onnx import ExportContext, ImportContext, OnnxNode
from ._rescale import emit_rescaled


@dataclass(frozen=True)
class ReduceMeanAttrs:
    """axes: ascending, not negative. keepdims: reduced axes stay, with length 1.

    clamp: real bounds of a fused activation; q_clamp: the same in the output's integers.
    """

    axes: tuple[int, ...] = ()
    keepdims: bool = True
    clamp: Clamp = UNBOUNDED
    q_clamp: tuple[int, int] = (-128, 127)


def infer(types: Sequence[TensorType], attrs: ReduceMeanAttrs) -> Sequence[TensorType]:
    if len(types) not in (1, 3):
        raise ValueError(f"takes 1 input, or 3 when lowered, not {len(types)}")
    x = types[0]
    if not attrs.axes or any(not 0 <= a < x.rank for a in attrs.axes):
        raise ValueError(f"cannot reduce axes {attrs.axes} of {x}")
    if any(t.shape != (1,) for t in types[1:]):
        raise ValueError("expected one multiplier and one shift")
    kept = [1 if a in attrs.axes else d for a, d in enumerate(x.shape)]
    if not attrs.keepdims:
        kept = [d for a, d in enumerate(x.shape) if a not in attrs.axes]
    return (x.with_shape(tuple(kept)),)


def reduced_elements(node: Node) -> int:
    """How many elements each mean is over."""
    return math.prod(node.x.shape[a] for a in node.attrs.axes)


def reference(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """The mean over the axes, clamped; float32, summed in float64."""
    attrs: ReduceMeanAttrs = node.attrs
    y = arrays[0].mean(axis=attrs.axes, keepdims=attrs.keepdims, dtype=np.float64)
    return (apply_clamp(np.asarray(y, np.float32), attrs.clamp),)


def integer_reference(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """clamp(requantize(Σ (x − z_x)) + z_y)."""
    x, multiplier, shift = arrays
    attrs: ReduceMeanAttrs = node.attrs
    acc = (x.astype(np.int64) - node.x.zero_point).sum(axis=attrs.axes, keepdims=attrs.keepdims)
    y = requantize(np.asarray(acc), multiplier[0], shift[0]) + node.y.zero_point
    return (saturate(y, *attrs.q_clamp),)


def lower(node: Node, rewriter: Rewriter) -> None:
    """One factor, s_x / (s_y · N)."""
    emit_rescaled(node, [node.x.scale / (node.y.scale * reduced_elements(node))], rewriter)


def macs(node: Node) -> int:
    """One addition per element."""
    return node.x.elements


def import_reduce_mean(node: OnnxNode, out: ImportContext) -> Sequence[Value]:
    x = node.x(0)
    if node.opset >= 18:
        given = node.integers(1)
        if (given is None or not np.size(given)) and node.attr("noop_with_empty_axes", 0):
            return (x,)
    else:
        given = node.attr("axes")
    listed = range(x.type.rank) if given is None or not np.size(given) else np.ravel(given).tolist()
    axes = sorted({node.axis(int(a), x.type.rank) for a in listed})
    return out.emit(OP, [x], ReduceMeanAttrs(tuple(axes), bool(node.attr("keepdims", 1))))


def import_global(node: OnnxNode, out: ImportContext) -> Sequence[Value]:
    """ONNX GlobalAveragePool: the mean over all axes but the first two."""
    x = node.x(0)
    if x.type.rank < 3:
        node.fail(f"expected spatial axes in {x.type}")
    return out.emit(OP, [x], ReduceMeanAttrs(tuple(range(2, x.type.rank)), True))


def export(node: Node, out: ExportContext) -> None:
    attrs: ReduceMeanAttrs = node.attrs
    x = [out.name(node.inputs[0])]

    def write(y: str) -> None:
        if attrs.keepdims and attrs.axes == tuple(range(2, node.x.rank)):
            out.node("GlobalAveragePool", x, [y])
        else:
            out.node("ReduceMean", x, [y], axes=attrs.axes, keepdims=int(attrs.keepdims))

    export_clamped(node, out, write)


CASES = (
    Case("global", ((1, 64, 5, 7),), ReduceMeanAttrs((2, 3))),
    Case("global_offset_odd", ((1, 7, 3, 3),), ReduceMeanAttrs((2, 3)), data=(2.0, 5.0)),
    Case("spatial_drop", ((1, 9, 4, 4),), ReduceMeanAttrs((2, 3), keepdims=False)),
    Case("last_axis", ((1, 5, 33),), ReduceMeanAttrs((2,), keepdims=False)),
    Case("channels", ((1, 6, 4, 5),), ReduceMeanAttrs((1,))),
    Case("first_and_last", ((3, 4, 5),), ReduceMeanAttrs((0, 2), keepdims=False)),
    Case("everything_relu", ((1, 3, 4, 4),), ReduceMeanAttrs((0, 1, 2, 3), clamp=(0.0, INF))),
)

OP = OpDef(
    name="reduce_mean",
    attrs=ReduceMeanAttrs,
    infer=infer,
    reference=reference,
    integer=IntegerRule(lower=lower, reference=integer_reference),
    macs=macs,
    onnx_import={"ReduceMean": import_reduce_mean, "GlobalAveragePool": import_global},
    onnx_export=export,
    cases=CASES,
    gradient=_gradient_rules.mean,
)

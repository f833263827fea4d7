"""Gradient rules of the operators that convolutions meet: sums, products, pools, data movement."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from ..errors import CompileError
from ..ir.dtypes import Array, DType, TensorType
from ..ir.graph import Node, Value
from ..quant.arithmetic import lookup_table, requantize
from ._clamp import INF
from ._gradient import (
    Gradient,
    GradientContext,
    GradientRule,
    add_broadcast,
    inside,
    masked,
    one_gradient,
)
from ._pool import PoolAttrs

Gradients = Sequence[Gradient | None]


def sum_rule(sign: int) -> GradientRule:
    """x1 + sign · x2."""

    def rule(node: Node, gradients: Gradients, context: GradientContext) -> None:
        dy = masked(node, one_gradient(gradients), context)
        for x, s in zip(node.inputs, (1, sign), strict=True):
            add_broadcast(context, x, dy.value, dy.factor * s * _scale(x.type) / _scale(node.y))

    return rule


def product(node: Node, gradients: Gradients, context: GradientContext) -> None:
    dy = masked(node, one_gradient(gradients), context)
    x1, x2 = node.inputs
    factor = dy.factor * _scale(x1.type) * _scale(x2.type) / _scale(node.y)
    for x, other in ((x1, x2), (x2, x1)):
        if context.wants(x):
            (dx,) = context.emit("mul_gradient", [dy.value, other], None, f"{x.name}.part")
            add_broadcast(context, x, dx, factor)


def mean(node: Node, gradients: Gradients, context: GradientContext) -> None:
    from .sum_gradients import SpreadGradientAttrs

    dy, x = one_gradient(gradients), node.inputs[0]
    if _is_real(node) or _saturates(node, context):
        dy = masked(node, dy, context)
    attrs = SpreadGradientAttrs(x.type.shape, node.attrs.axes)
    (dx,) = context.emit("spread_gradient", [dy.value], attrs, f"{x.name}.gradient")
    count = x.type.elements // node.y.elements
    context.add(x, dx, dy.factor * _scale(x.type) / (_scale(node.y) * count))


def average_pool(node: Node, gradients: Gradients, context: GradientContext) -> None:
    from .average_pool import window_divisors

    dy, x = masked(node, one_gradient(gradients), context), node.inputs[0]
    weight = _scale(x.type) / (_scale(node.y) * window_divisors(node.x, node.attrs))
    constant = context.constant(f"{node.name}.weight", weight.astype(np.float32))
    inputs = [dy.value, constant]
    (dx,) = context.emit("average_pool_gradient", inputs, _pool(node), f"{x.name}.gradient")
    context.add(x, dx, dy.factor)


def max_pool(node: Node, gradients: Gradients, context: GradientContext) -> None:
    dy, x = one_gradient(gradients), node.inputs[0]
    if _is_real(node) or node.attrs.q_clamp != (-128, 127):
        dy = masked(node, dy, context)
    (dx,) = context.emit("max_pool_gradient", [dy.value, x], _pool(node), f"{x.name}.gradient")
    context.add(x, dx, dy.factor)


def rectifier(node: Node, gradients: Gradients, context: GradientContext) -> None:
    """relu and clip of a float32 network."""
    bounds = (0.0, INF) if node.op.name == "relu" else (node.attrs.low, node.attrs.high)
    dy = inside(node, one_gradient(gradients), bounds, context)
    context.add(node.inputs[0], dy.value, dy.factor)


def lookup(node: Node, gradients: Gradients, context: GradientContext) -> None:
    """The slope of the table: of a change of scale the ratio, else central differences."""
    dy, (x, table) = one_gradient(gradients), node.inputs
    slope = context.constant(f"{node.name}.slope", _slope(node, context.array(table)))
    (dx,) = context.emit("lookup_gradient", [dy.value, x, slope], None, f"{x.name}.gradient")
    context.add(x, dx, dy.factor)


def rescale_ratio(node: Node, table: Array) -> float | None:
    """s_x / s_y when the table only changes scale and zero point; None otherwise."""
    identity = lookup_table(lambda real: real, node.x, node.y)
    return node.x.scale / node.y.scale if np.array_equal(identity, table) else None


def _slope(node: Node, table: Array) -> Array:
    """float32[256]: dy/dx in integers at every x."""
    ratio = rescale_ratio(node, table)
    if ratio is not None:
        return np.where((table > -128) & (table < 127), ratio, 0).astype(np.float32)
    i = np.arange(table.size)
    low, high = np.maximum(i - 2, 0), np.minimum(i + 2, table.size - 1)
    rise = table[high].astype(np.float64) - table[low]
    return (rise / (high - low)).astype(np.float32)


def concat(node: Node, gradients: Gradients, context: GradientContext) -> None:
    dy, axis = one_gradient(gradients), node.attrs.axis
    sizes = [v.type.shape[axis] for v in node.inputs]
    starts = itertools.accumulate(sizes, initial=0)
    for x, start, size in zip(node.inputs, starts, sizes, strict=False):
        if context.wants(x):
            _emit_slice(context, dy, node.inputs.index(x), x, (axis, start, size))


def _emit_slice(
    context: GradientContext, dy: Gradient, index: int, x: Value, part: tuple[int, int, int]
) -> None:
    from .slice import SliceAttrs

    axis, start, size = part
    attrs = SliceAttrs((axis,), (start,), (size,), (1,))
    (dx,) = context.emit("slice", [dy.value], attrs, f"{x.name}.gradient{index}")
    context.add(x, dx, dy.factor)


def slice_(node: Node, gradients: Gradients, context: GradientContext) -> None:
    attrs, shape = node.attrs, node.x.shape
    if any(step != 1 for step in attrs.steps):
        raise CompileError(
            "training cannot go through a slice with steps",
            node=str(node.origin),
            hint="train only layers after it",
        )
    ends = [
        shape[a] - start - size
        for a, start, size in zip(attrs.axes, attrs.starts, attrs.sizes, strict=True)
    ]
    _emit_pad(node, one_gradient(gradients), attrs.axes, attrs.starts, tuple(ends), context)


def split(node: Node, gradients: Gradients, context: GradientContext) -> None:
    axis = node.attrs.axis
    sizes = [v.type.shape[axis] for v in node.outputs]
    starts = itertools.accumulate(sizes, initial=0)
    for dy, start, size in zip(gradients, starts, sizes, strict=False):
        if dy is not None:
            rest = node.x.shape[axis] - start - size
            _emit_pad(node, dy, (axis,), (start,), (rest,), context)


def _emit_pad(
    node: Node,
    dy: Gradient,
    axes: tuple[int, ...],
    before: tuple[int, ...],
    after: tuple[int, ...],
    context: GradientContext,
) -> None:
    from .pad import PadAttrs

    x = node.inputs[0]
    attrs = PadAttrs(axes, before, after)
    (dx,) = context.emit("pad", [dy.value], attrs, f"{x.name}.gradient")
    context.add(x, dx, dy.factor)


def pad(node: Node, gradients: Gradients, context: GradientContext) -> None:
    from .slice import SliceAttrs

    attrs, x = node.attrs, node.inputs[0]
    if attrs.mode != "constant":
        raise CompileError(
            f"training cannot go through padding of mode {attrs.mode!r}",
            node=str(node.origin),
            hint="train only layers after it",
        )
    dy = one_gradient(gradients)
    sizes = tuple(x.type.shape[a] for a in attrs.axes)
    part = SliceAttrs(attrs.axes, attrs.before, sizes, (1,) * len(sizes))
    (dx,) = context.emit("slice", [dy.value], part, f"{x.name}.gradient")
    context.add(x, dx, dy.factor)


def reshape(node: Node, gradients: Gradients, context: GradientContext) -> None:
    from .reshape import ReshapeAttrs

    dy, x = one_gradient(gradients), node.inputs[0]
    attrs = ReshapeAttrs(x.type.shape)
    (dx,) = context.emit("reshape", [dy.value], attrs, f"{x.name}.gradient")
    context.add(x, dx, dy.factor)


def transpose(node: Node, gradients: Gradients, context: GradientContext) -> None:
    dy, x = one_gradient(gradients), node.inputs[0]
    attrs = type(node.attrs)(tuple(int(i) for i in np.argsort(node.attrs.perm)))
    (dx,) = context.emit("transpose", [dy.value], attrs, f"{x.name}.gradient")
    context.add(x, dx, dy.factor)


def _is_real(node: Node) -> bool:
    return node.y.dtype is DType.FLOAT32


def _scale(type_: TensorType) -> float:
    """What a unit of the value is worth: 1 where it is float32."""
    return 1.0 if type_.dtype is DType.FLOAT32 else type_.scale


def _pool(node: Node) -> PoolAttrs:
    from .pool_gradient import PoolGradientAttrs

    a: PoolAttrs = node.attrs
    return PoolGradientAttrs(
        a.kernel, a.strides, a.pads, a.dilations, a.ceil_mode, "NHWC", shape=node.x.shape
    )


def _saturates(node: Node, context: GradientContext) -> bool:
    """Whether a mean of int8 values can leave the output's clamp."""
    multiplier, shift = (int(context.array(v)[0]) for v in node.inputs[1:])
    count = node.x.elements // node.y.elements
    ends = np.array([-128, 127], np.int64) - node.x.zero_point
    low, high = (requantize(ends * count, multiplier, shift) + node.y.zero_point).tolist()
    return low < node.attrs.q_clamp[0] or high > node.attrs.q_clamp[1]

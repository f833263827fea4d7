"""Make every constant of the integer meaning explicit: multipliers, shifts, tables.

Before that, biases that could push an accumulator out of int32 are clamped, and said so: such a
channel's output is saturated either way, but wrapping would turn it into noise.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..errors import CompileError
from ..ir.dtypes import Array
from ..ir.graph import Graph, Node, Stage
from ..ir.opdef import Absent
from ..ir.rewrite import Rewriter, rewrite_nodes
from ..pass_manager import Pass, PassContext
from ..quant.arithmetic import INT32_MAX, accumulator_bounds

NAME = "lower_requantize"
_LOWERED_INPUTS = 5  # x, w, bias, multiplier, shift


def run(graph: Graph, context: PassContext) -> Graph:
    def visit(node: Node, rewriter: Rewriter) -> bool:
        rule = node.op.integer
        if isinstance(rule, Absent):
            raise CompileError(
                f"{node.op.name} has no integer form: {rule.reason}", node=str(node.origin)
            )
        node = _with_safe_bias(node, rewriter, context)
        try:
            rule.lower(node, rewriter)
        except ValueError as error:
            raise CompileError(
                f"{node.op.name} cannot be lowered to integers: {error}",
                node=str(node.origin),
                expected="input, weight and output scales within a factor of 2^30",
                hint="the scales of this layer look wrong; recalibrate the model",
            ) from error
        return True

    return rewrite_nodes(graph, NAME, visit)


PASS = Pass(NAME, run, Stage.QUANTIZED)


def bias_limits(weights: Array, axis: int, zero_point: int) -> Array:
    """Largest |bias| per output channel for which no int32 sum can overflow, int64 [O].

    Every order of summing is covered: kernels start from bias − z·Σw (the zero point folded in) and
    add w·x one by one, or sum w·(x − z) and add the bias last. |z| + 128 bounds both.

    Args:
        weights: int8, any shape. axis: its output channel axis. zero_point: of the input.
    """
    rows = np.moveaxis(weights, axis, 0).reshape(weights.shape[axis], -1).astype(np.int64)
    return INT32_MAX - np.abs(rows).sum(axis=1) * (abs(zero_point) + 128)


def _with_safe_bias(node: Node, rewriter: Rewriter, context: PassContext) -> Node:
    """The node with a bias that cannot overflow the accumulator."""
    rule = node.op.integer
    weight = None if isinstance(rule, Absent) else rule.weight
    if weight is None or weight.bias_index is None or len(node.inputs) >= _LOWERED_INPUTS:
        return node
    w, bias = node.inputs[weight.index], node.inputs[weight.bias_index]
    weights, values = rewriter.array(w), rewriter.array(bias)
    if weights is None or values is None:
        return node
    axis = weight.axis(node.attrs)
    zero_point = node.x.zero_point
    limits = bias_limits(weights, 0 if axis is None else axis, zero_point)
    if np.any(limits < 0):
        raise CompileError(
            f"channel {int(np.argmin(limits))} could exceed a 32-bit accumulator whatever its bias",
            node=str(node.origin),
            expected="a sum of |weight| · 256 below 2^31",
            hint="split this layer: it sums too many products for a 32-bit accumulator",
        )
    safe = np.clip(values.astype(np.int64), -limits, limits).astype(np.int32)
    rows = np.moveaxis(weights, 0 if axis is None else axis, 0)
    low, high = accumulator_bounds(rows, safe, -128, 127, zero_point)
    assert low.min() >= -INT32_MAX - 1, "the limit is too wide"
    assert high.max() <= INT32_MAX, "the limit is too wide"
    changed = int(np.count_nonzero(safe != values))
    if not changed:
        return node
    context.note(
        f"{node.origin}: the bias of {changed} channel{'s' if changed > 1 else ''} could overflow "
        "the 32-bit accumulator; clamped"
    )
    new = rewriter.constant(f"{bias.name}.clamped", safe, bias.type.quant)
    inputs = list(node.inputs)
    inputs[weight.bias_index] = new
    return replace(node, inputs=tuple(inputs))

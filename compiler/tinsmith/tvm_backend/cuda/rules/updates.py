"""What a step changes: weights with their residuals, and biases, in place. A thread for each weight
and its sum over pixels; how far a channel's weights went is added to its bias atomically."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ....ir.dtypes import DType
from ....ir.graph import Graph, Node
from ....kernels import Constant
from ....ops.weight_update import moving_shape
from ....quant.arithmetic import INT32_MAX
from ...import_tvm import PrimFunc, T, tirx
from ..rule import constant_operands, unravel
from ..threads import (
    Cell,
    Expr,
    Operands,
    Phase,
    atomic,
    bounded,
    clamp,
    nearest,
    phases,
    plus,
    power_of_two,
    real,
    store,
    times,
)
from .gradients import rules

_BIAS_LIMIT = 2**30
_STEP_LIMIT = 65536.0  # as in ops/_rounding.py
_W_MAX = 127
_TRAINED, _BIAS, _RESIDUAL = 5, 6, 7  # positions among the inputs of weight_update


def _rows(node: Node) -> Mapping[str, Constant]:
    """`rows`: the output channels that move, where they are not all."""
    channels = node.attrs.update_channels
    return {"rows": Constant(np.array(channels, np.int32), 16)} if channels else {}


@dataclass(frozen=True)
class _Update:
    """A weight_update and its buffers."""

    node: Node
    b: Operands

    def weight_gradient(self, moving: Expr, kh: Expr, kw: Expr, channel: Expr, o: Expr) -> Expr:
        """Σ over pixels of g · (x − z). moving: number of the row among those that move."""
        attrs, x = self.node.attrs, self.node.inputs[2].type
        samples, out_h, out_w, out_c = self.node.x.shape
        _, in_h, in_w, in_c = x.shape
        filters = self.node.inputs[_TRAINED].type.shape
        groups = in_c // filters[3]
        per_out = moving_shape(attrs, filters)[0] // groups
        source = moving // per_out * filters[3] + channel
        total = Cell("int32", 0)
        with T.serial(0, samples) as n, T.serial(0, out_h) as row, T.serial(0, out_w) as column:
            h = row * attrs.strides[0] + kh * attrs.dilations[0] - attrs.pads[0]
            w = column * attrs.strides[1] + kw * attrs.dilations[1] - attrs.pads[1]
            with T.If(tirx.all(h >= 0, h < in_h, w >= 0, w < in_w)), T.Then():
                q = self.b.inputs[2][((n * in_h + h) * in_w + w) * in_c + source]
                g = self.b.inputs[0][((n * out_h + row) * out_w + column) * out_c + o]
                total.set(total.value + g.astype("int32") * (q.astype("int32") - x.zero_point))
        return total.value

    def move(self, i: Expr) -> None:
        """Weight i of those that move."""
        attrs, b, filters = self.node.attrs, self.b, self.node.inputs[_TRAINED].type.shape
        moving, kh, kw, channel = unravel(i, moving_shape(attrs, filters))
        o = b.tables["rows"][moving] if attrs.update_channels else moving
        coefficient, trained = b.inputs[4], b.inputs[_TRAINED]
        at = ((o * filters[1] + kh) * filters[2] + kw) * filters[3] + channel
        with T.If(coefficient[o] != real(0)), T.Then():
            total = self.weight_gradient(moving, kh, kw, channel, o)
            scale = step_scale(coefficient[o], b.inputs[3][0], b.inputs[1][0])
            old = Cell("int32", trained[at].astype("int32"))
            step = self.with_decay(times(total.astype("float32"), scale), old.value, i)
            new = Cell("int32", self.by_rule(old.value, step, i))
            store(trained, at, new.value.astype("int8"))
            zero_point = self.node.inputs[2].type.zero_point
            if zero_point:
                shift = (old.value - new.value) * zero_point
                atomic("atomicAdd", b.inputs[_BIAS], o, shift)

    def with_decay(self, step: Expr, w: Expr, i: Expr) -> Expr:
        decay = self.node.attrs.weight_decay
        if not decay:
            return step
        held = w.astype("float32")
        if self.node.attrs.rule == "residual8":
            last = (w * 256 + self.b.inputs[_RESIDUAL][i].astype("int32")).astype("float32")
            held = times(last, real(1 / 256))
        pull = times(self.b.inputs[3][0], real(float(np.float32(decay))))
        return plus(step, times(pull, held))

    def by_rule(self, w: Expr, step: Expr, i: Expr) -> Expr:
        """w', with its residual stored."""
        if self.node.attrs.rule == "nearest":
            return clamp(w - bounded(nearest(step), _STEP_LIMIT), -_W_MAX, _W_MAX)
        residual = self.b.inputs[_RESIDUAL]
        moved = bounded(nearest(times(step, real(256))), _STEP_LIMIT)
        held = w * 256 + residual[i].astype("int32") - moved
        v = Cell("int32", clamp(held, -32768, 32767))
        new = Cell("int32", clamp((v.value + 128) >> 8, -_W_MAX, _W_MAX))
        store(residual, i, clamp(v.value - new.value * 256, -128, 127).astype("int8"))
        return new.value


def step_scale(coefficient: Expr, rate: Expr, exponent: Expr) -> Expr:
    """(coefficient · rate) · 2^exponent."""
    return times(times(coefficient, rate), power_of_two(exponent))


def _weights(node: Node, graph: Graph) -> PrimFunc:
    count = int(np.prod(moving_shape(node.attrs, node.inputs[_TRAINED].type.shape)))

    def write(b: Operands) -> Sequence[Phase]:
        return [(count, _Update(node, b).move)]

    return phases(node, graph, write, _rows(node))


def _weight_constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    return {**constant_operands(node, graph), **_rows(node)}


def _updates_here(node: Node, graph: Graph) -> bool:
    """int8 gradients whose sums fit int32, and a rule whose weights do not wait for each other."""
    pixels = int(np.prod(node.x.shape[:3]))
    state = all(old in graph.storage for old, _ in node.updates)
    fits = node.x.dtype is DType.INT8 and pixels * 127 * 255 <= INT32_MAX
    return state and fits and node.attrs.rule in ("residual8", "nearest")


def _bias(node: Node, graph: Graph) -> PrimFunc:
    channels = node.x.shape[-1]
    pixels = node.x.elements // channels

    def write(b: Operands) -> Sequence[Phase]:
        g, exponent, rate, coefficient, bias = b.inputs

        def one(o: Expr) -> None:
            total = Cell("int32", 0)
            with T.serial(0, pixels) as p:
                total.set(total.value + g[p * channels + o].astype("int32"))
            scale = step_scale(coefficient[o], rate[0], exponent[0])
            step = nearest(times(total.value.astype("float32"), scale))
            moved = bias[o].astype("int64") - bounded(step, _BIAS_LIMIT).astype("int64")
            limit = tirx.const(_BIAS_LIMIT, "int64")
            new = tirx.max(tirx.min(moved, limit), 0 - limit).astype("int32")
            with T.If(coefficient[o] != real(0)), T.Then():
                store(bias, o, new)

        return [(channels, one)]

    return phases(node, graph, write)


def _bias_here(node: Node, graph: Graph) -> bool:
    pixels = node.x.elements // node.x.shape[-1]
    state = all(old in graph.storage for old, _ in node.updates)
    return state and node.x.dtype is DType.INT8 and pixels * 128 <= INT32_MAX


RULES = (
    *rules("weight_update", _weights, _weight_constants, _updates_here),
    *rules("bias_update", _bias, applies=_bias_here),
)

"""The updates of a layer: SGD with quantisation-aware scaling, fused with the weight gradient.

weight_update(g, exponent, x_saved, learning_rate[1], coefficient[O], trained, bias [, residual])
    → trained', bias' [, residual']
    dw   = Σ over pixels of g[p,o] · (x_saved[p,i] − z_x)    exact int32; the border counts as 0
    step = float32(dw) · ((coefficient[o] · learning_rate) · 2^exponent)
           [+ (learning_rate · weight_decay) · (w + r/one)]         with weight decay
    trained' and residual' by the rule, see `ops/_rounding.py`; only channels whose coefficient is
    not 0 are touched, and of a depthwise layer only `update_channels`
    bias' = bias − z_x · Σ(trained' − trained)

bias_update(g, exponent, learning_rate[1], coefficient[O], bias) → bias'
    step  = float32(Σ over pixels of g) · ((coefficient[o] · learning_rate) · 2^exponent)
    bias' = clamp(bias − rint(step), ±2^30), where the coefficient is not 0

g is int8, or float32 with the exponent 0, a constant; then sums are float32, in the order of
`ops/_ordered_sums.py`.

residual: int8 of `trained`'s shape for residual8 (its rows `update_channels` only), uint8[⌈n/2⌉]
for residual4, uint32[1], the generator's state, for stochastic: it draws once per weight of a
channel that is touched, in storage order. The rule nearest has none.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..ir.dtypes import Array, DType, Shape, TensorType
from ..ir.graph import Node
from ..ir.opdef import NoAttrs
from . import _rounding
from ._convolution import ConvolutionAttrs, exact_float, filter_gradient
from ._gradient import is_gradient, power_of_two, training_op
from ._ordered_sums import ordered_filter_gradient, ordered_sum

_BIAS_LIMIT = 2**30


@dataclass(frozen=True)
class RuleAttrs:
    """rule: residual8, residual4, stochastic or nearest. update_channels: of a depthwise layer."""

    rule: str = "residual8"
    update_channels: tuple[int, ...] = ()


@dataclass(frozen=True)
class WeightUpdateAttrs(ConvolutionAttrs):
    """As RuleAttrs, and weight_decay: the pull of real weights to 0, per unit of learning rate."""

    rule: str = "residual8"
    update_channels: tuple[int, ...] = ()
    weight_decay: float = 0.0


AnyRule = RuleAttrs | WeightUpdateAttrs


def moving_shape(attrs: AnyRule, shape: Shape) -> Shape:
    """Of the weights that move: all of `trained`, or its rows `update_channels`."""
    return (len(attrs.update_channels) or shape[0], *shape[1:])


def residual_start(attrs: AnyRule, shape: Shape, name: str) -> Array | None:
    """The first content of the rule's state for a filter of `shape`; None without state."""
    moving = moving_shape(attrs, shape)
    if attrs.rule == "residual8":
        return np.zeros(moving, np.int8)
    if attrs.rule == "residual4":
        return np.zeros(-(-int(np.prod(moving)) // 2), np.uint8)
    if attrs.rule == "stochastic":
        return np.array([zlib.crc32(name.encode()) | 1], np.uint32)
    return None


def infer(types: Sequence[TensorType], attrs: WeightUpdateAttrs) -> Sequence[TensorType]:
    g, exponent, x, rate, coefficient, trained, bias = types[:7]
    out = trained.shape[0]
    if not is_gradient(g) or g.shape[3] != out or exponent.shape != (1,):
        raise ValueError(f"{g} is not a gradient for {trained}")
    rows = moving_shape(attrs, trained.shape)[0]
    channels = trained.shape[3] * (rows if attrs.groups == out else attrs.groups)
    if x.dtype is not DType.INT8 or x.shape[3] != channels:
        raise ValueError(f"the saved input {x} has not the {channels} channels that train")
    if rate.shape != (1,) or coefficient.shape != (out,) or bias.shape != (out,):
        raise ValueError(f"expected one learning rate, {out} coefficients and biases")
    start = residual_start(attrs, trained.shape, "")
    wanted = [] if start is None else [(start.shape, start.dtype)]
    if [(t.shape, t.dtype.numpy) for t in types[7:]] != wanted:
        raise ValueError(f"the rule {attrs.rule} takes {wanted or 'no residual'}")
    return (
        TensorType(trained.shape, DType.INT8),
        TensorType(bias.shape, DType.INT32),
        *(TensorType(t.shape, t.dtype) for t in types[7:]),
    )


def weight_gradient(node: Node, g: Array, x: Array, filters: Shape) -> Array:
    """Σ over pixels of g · (x − z_x) of the weights that move, exact in float32 or float64; in
    order where the graph's gradients are float32.

    node: of an operator with `update_channels` whose input 2 is x. filters: shape of the weights.
    """
    attrs: WeightUpdateAttrs = node.attrs
    ordered = node.x.dtype is DType.FLOAT32
    exact = np.float32 if ordered else exact_float(g.shape[1] * g.shape[2], 127 * 255)
    if attrs.update_channels:
        g = g[..., list(attrs.update_channels)]
    centred = x.astype(exact) - exact(node.inputs[2].type.zero_point)
    kernel = (filters[1], filters[2])
    gradient = ordered_filter_gradient if ordered else filter_gradient
    return gradient(g.astype(exact), centred, kernel, filters[3], attrs)


def step_scale(coefficient: Array, rate: Array, exponent: Array) -> Array:
    """float32[O]: (coefficient · learning_rate) · 2^exponent."""
    return (coefficient * rate[0]) * power_of_two(exponent)


def update_weights(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """New arrays; the old ones stay."""
    g, exponent, x, rate, coefficient, trained, bias = arrays[:7]
    attrs: WeightUpdateAttrs = node.attrs
    rows = np.array(attrs.update_channels or range(trained.shape[0]))
    dw = weight_gradient(node, g, x, trained.shape).astype(np.float32)
    live = rows[coefficient[rows] != 0]
    old = trained[live].astype(np.int64)
    with np.errstate(over="ignore", invalid="ignore"):
        scale = step_scale(coefficient, rate, exponent)
        step = (dw * scale[rows][:, None, None, None])[coefficient[rows] != 0]
        if attrs.weight_decay:
            whole, one = last_places(attrs, old, arrays[7:], coefficient[rows] != 0)
            held = whole.astype(np.float32) * np.float32(1 / one)
            step = step + (rate[0] * np.float32(attrs.weight_decay)) * held
        new, residual = by_rule(attrs, old, step, arrays[7:], coefficient[rows] != 0)
    moved = trained.copy()
    moved[live] = new
    shifted = bias.astype(np.int64)
    shifted[live] -= node.inputs[2].type.zero_point * (new - old).sum(axis=(1, 2, 3))
    return (moved, shifted.astype(np.int32), *residual)


def last_places(attrs: AnyRule, w: Array, state: Sequence[Array], live: Array) -> tuple[Array, int]:
    """(w · one + r, one): int64 weights of the live rows in the rule's last place."""
    bits = {"residual8": 8, "residual4": 4}.get(attrs.rule, 0)
    if not bits:
        return w, 1
    return (w << bits) + _unpacked(bits, state[0], (live.size, *w.shape[1:]))[live], 1 << bits


def _unpacked(bits: int, residual: Array, shape: Shape) -> Array:
    return _rounding.unpack_nibbles(residual, shape) if bits == 4 else residual.astype(np.int64)


def by_rule(
    attrs: AnyRule, w: Array, step: Array, state: Sequence[Array], live: Array
) -> tuple[Array, list[Array]]:
    """(w', [residual']) of the live rows. w: int64; step: float32; state: [residual] or []."""
    if attrs.rule == "nearest":
        return _rounding.nearest(w, step), []
    if attrs.rule == "stochastic":
        states, last = _rounding.xorshift32(int(state[0][0]), w.size)
        uniform = _rounding.uniform24(states).reshape(w.shape)
        return _rounding.stochastic(w, step, uniform), [np.array([last], np.uint32)]
    shape = (live.size, *w.shape[1:])
    bits = 8 if attrs.rule == "residual8" else 4
    whole = _unpacked(bits, state[0], shape)
    new, whole[live] = _rounding.with_residual(w, whole[live], step, bits)
    return new, [_rounding.pack_nibbles(whole) if bits == 4 else whole.astype(np.int8)]


def macs(node: Node) -> int:
    moving = moving_shape(node.attrs, node.inputs[5].type.shape)
    return node.x.shape[1] * node.x.shape[2] * int(np.prod(moving))


def infer_bias(types: Sequence[TensorType], attrs: NoAttrs) -> Sequence[TensorType]:
    del attrs
    g, exponent, rate, coefficient, bias = types
    if not is_gradient(g) or exponent.shape != (1,) or rate.shape != (1,):
        raise ValueError(f"takes a gradient, exponent and rate, not {g}, {exponent}, {rate}")
    if bias.shape != g.shape[-1:] or coefficient.shape != bias.shape:
        raise ValueError(f"{g} is not a gradient for {bias}")
    return (TensorType(bias.shape, DType.INT32),)


def update_bias(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """int32[O]."""
    g, exponent, rate, coefficient, bias = arrays
    with np.errstate(over="ignore", invalid="ignore"):
        step = bias_gradient(node, g) * step_scale(coefficient, rate, exponent)
    return (bias_moved(bias, coefficient, step),)


def bias_gradient(node: Node, g: Array) -> Array:
    """float32[O]: the sum over all pixels of the node's first input."""
    if node.x.dtype is DType.FLOAT32:
        return ordered_sum(g)
    return g.reshape(-1, g.shape[-1]).sum(axis=0, dtype=np.int64).astype(np.float32)


def bias_moved(bias: Array, coefficient: Array, step: Array) -> Array:
    """int32[O]: clamp(bias − rint(step), ±2^30), where the coefficient is not 0."""
    moved = _rounding.bounded(np.rint(step), np.float32(_BIAS_LIMIT))
    new = np.clip(bias.astype(np.int64) - moved, -_BIAS_LIMIT, _BIAS_LIMIT)
    return np.where(coefficient != 0, new, bias).astype(np.int32)


OPS = (
    training_op(
        "weight_update", infer, update_weights, WeightUpdateAttrs, macs, ((0, 5), (1, 6), (2, 7))
    ),
    training_op("bias_update", infer_bias, update_bias, updates=((0, 4),)),
)

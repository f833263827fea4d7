"""Updates that outlast their sample: SGD with momentum, over batches of several samples.

The sum of a batch's gradients is a state, `velocity`, float32 of the shape of what moves. Every
sample adds to it; the last of a batch takes the step. `position`, int32[1], counts the samples of
the batch; without it (batches of one) every sample is the first and the last.

accumulate_weights(g, exponent, x_saved, coefficient[O], velocity [, position]) → velocity'
    velocity' = velocity · carry + float32(dw) · 2^exponent         dw: see `weight_update.py`
accumulate_bias(g, exponent, coefficient[O], velocity[O] [, position]) → velocity'
    velocity' = velocity · carry + float32(Σ over pixels of g) · 2^exponent
    carry = momentum at the first sample of a batch, else 1

apply_weights(learning_rate[1], coefficient[O], velocity, trained, bias [, residual] [, position])
    → velocity', trained', bias' [, residual']
    v = velocity + ((weight_decay · batch) / coefficient[o] · 1/one) · float32(w · one + r)
    step = v · ((coefficient[o] · learning_rate) · 1/batch)
    velocity' = v, or 0 where that is not finite; the others by the rule, as in `weight_update.py`.
    one = 256, 16 or 1, and r the residual, as the rule has them; without weight decay v = velocity
apply_bias(learning_rate[1], coefficient[O], velocity[O], bias[O] [, position]) → velocity', bias'
    step = velocity · ((coefficient · learning_rate) · 1/batch); bias' as in `weight_update.py`

count_sample(position) → position'      the next of 0 … batch − 1

All of them touch only channels whose coefficient is not 0. Over the samples of a batch this is
`torch.optim.SGD(momentum, weight_decay)` of the mean gradient: v is its buffer times batch, in
units of the int8 weight, whose real value is s_w · w, so that 1/coefficient is s_w².
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..ir.dtypes import Array, DType, Shape, TensorType
from ..ir.graph import Node
from ..ir.opdef import OpDef
from ._convolution import ConvolutionAttrs
from ._gradient import is_gradient, power_of_two, training_op
from .weight_update import (
    RuleAttrs,
    bias_gradient,
    bias_moved,
    by_rule,
    last_places,
    moving_shape,
    residual_start,
    weight_gradient,
)


@dataclass(frozen=True)
class CountSampleAttrs:
    """batch: samples to a step."""

    batch: int = 1


@dataclass(frozen=True)
class AccumulateAttrs(CountSampleAttrs):
    """momentum: what is kept of the last step's velocity."""

    momentum: float = 0.0


@dataclass(frozen=True)
class AccumulateWeightsAttrs(ConvolutionAttrs):
    """update_channels: of a depthwise layer, the channels that move; empty: all."""

    update_channels: tuple[int, ...] = ()
    batch: int = 1
    momentum: float = 0.0


@dataclass(frozen=True)
class ApplyWeightsAttrs(RuleAttrs):
    """zero_point: of the layer's input."""

    batch: int = 1
    weight_decay: float = 0.0
    zero_point: int = 0


def velocity_start(shape: Shape) -> Array:
    """The first content of a velocity of what has this shape."""
    return np.zeros(shape, np.float32)


def infer_weights(types: Sequence[TensorType], attrs: AccumulateWeightsAttrs) -> list[TensorType]:
    g, exponent, x, coefficient, velocity = types[:5]
    out, rows = coefficient.elements, len(attrs.update_channels) or coefficient.elements
    if not is_gradient(g) or g.shape[3] != out or exponent.shape != (1,):
        raise ValueError(f"{g} is not a gradient of {out} channels")
    if velocity.dtype is not DType.FLOAT32 or velocity.shape[0] != rows:
        raise ValueError(f"{velocity} does not hold {rows} filters")
    channels = velocity.shape[3] * (rows if attrs.groups == out else attrs.groups)
    if x.dtype is not DType.INT8 or x.shape[3] != channels:
        raise ValueError(f"the saved input {x} has not the {channels} channels that train")
    _check_position(types[5:], attrs.batch)
    return [TensorType(velocity.shape, DType.FLOAT32)]


def accumulate_weights(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """A new array; the old one stays."""
    g, exponent, x, coefficient, velocity = arrays[:5]
    attrs: AccumulateWeightsAttrs = node.attrs
    dw = weight_gradient(node, g, x, node.inputs[4].type.shape).astype(np.float32)
    live = coefficient[list(attrs.update_channels) or slice(None)] != 0
    with np.errstate(over="ignore", invalid="ignore"):
        total = velocity * carry(node, arrays[5:]) + dw * power_of_two(exponent)
    return (np.where(live[:, None, None, None], total, velocity),)


def carry(node: Node, position: Sequence[Array]) -> np.float32:
    """What is left of the velocity before a sample. position: one array, or none."""
    first = not position or position[0][0] == 0
    return np.float32(node.attrs.momentum if first else 1)


def is_last(node: Node, position: Sequence[Array]) -> bool:
    """Whether a sample ends its batch. position: one array, or none."""
    return not position or bool(position[0][0] == node.attrs.batch - 1)


def macs(node: Node) -> int:
    return node.x.shape[1] * node.x.shape[2] * node.inputs[4].type.elements


def infer_bias(types: Sequence[TensorType], attrs: AccumulateAttrs) -> list[TensorType]:
    g, exponent, coefficient, velocity = types[:4]
    if not is_gradient(g) or exponent.shape != (1,):
        raise ValueError(f"takes a gradient and its exponent, not {g}, {exponent}")
    if velocity.shape != g.shape[-1:] or coefficient.shape != velocity.shape:
        raise ValueError(f"{g} is not a gradient for {velocity}")
    _check_position(types[4:], attrs.batch)
    return [TensorType(velocity.shape, DType.FLOAT32)]


def accumulate_bias(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """float32[O]."""
    g, exponent, coefficient, velocity = arrays[:4]
    db = bias_gradient(node, g)
    with np.errstate(over="ignore", invalid="ignore"):
        total = velocity * carry(node, arrays[4:]) + db * power_of_two(exponent)
    return (np.where(coefficient != 0, total, velocity),)


def infer_apply(types: Sequence[TensorType], attrs: ApplyWeightsAttrs) -> list[TensorType]:
    rate, coefficient, velocity, trained, bias = types[:5]
    out = trained.shape[0]
    if rate.shape != (1,) or coefficient.shape != (out,) or bias.shape != (out,):
        raise ValueError(f"expected one learning rate, {out} coefficients and biases")
    if velocity.shape != moving_shape(attrs, trained.shape):
        raise ValueError(f"{velocity} is not the velocity of {trained}")
    start = residual_start(attrs, trained.shape, "")
    count = 5 if start is None else 6
    wanted = [] if start is None else [(start.shape, start.dtype)]
    if [(t.shape, t.dtype.numpy) for t in types[5:count]] != wanted:
        raise ValueError(f"the rule {attrs.rule} takes {wanted or 'no residual'}")
    _check_position(types[count:], attrs.batch)
    return [TensorType(t.shape, t.dtype) for t in (velocity, trained, bias, *types[5:count])]


def apply_weights(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """New arrays; the old ones where the batch goes on."""
    rate, coefficient, velocity, trained, bias = arrays[:5]
    attrs: ApplyWeightsAttrs = node.attrs
    count = len(node.outputs) + 2
    state = arrays[5:count]
    if not is_last(node, arrays[count:]):
        return (velocity, trained, bias, *state)
    rows = np.array(attrs.update_channels or range(trained.shape[0]))
    live = coefficient[rows] != 0
    old, factors = trained[rows[live]].astype(np.int64), coefficient[rows[live]]
    after, moved, shifted = velocity.copy(), trained.copy(), bias.astype(np.int64)
    with np.errstate(over="ignore", invalid="ignore"):
        v = velocity[live]
        if attrs.weight_decay:
            whole, one = last_places(attrs, old, state, live)
            pull = np.float32(attrs.weight_decay * attrs.batch) / factors * np.float32(1 / one)
            v = v + pull[:, None, None, None] * whole.astype(np.float32)
        step = v * step_scale(factors, rate, attrs.batch)[:, None, None, None]
        new, residual = by_rule(attrs, old, step, state, live)
    after[live] = np.where(np.isfinite(v), v, np.float32(0))
    moved[rows[live]] = new
    shifted[rows[live]] -= attrs.zero_point * (new - old).sum(axis=(1, 2, 3))
    return (after, moved, shifted.astype(np.int32), *residual)


def step_scale(coefficient: Array, rate: Array, batch: int) -> Array:
    """float32[O]: (coefficient · learning_rate) · 1/batch."""
    return (coefficient * rate[0]) * np.float32(1 / batch)


def infer_apply_bias(types: Sequence[TensorType], attrs: CountSampleAttrs) -> list[TensorType]:
    rate, coefficient, velocity, bias = types[:4]
    if rate.shape != (1,) or len({t.shape for t in (coefficient, velocity, bias)}) != 1:
        raise ValueError(f"{velocity} and {coefficient} do not belong to {bias}")
    _check_position(types[4:], attrs.batch)
    return [TensorType(t.shape, t.dtype) for t in (velocity, bias)]


def apply_bias(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """float32[O], int32[O]: the old ones where the batch goes on."""
    rate, coefficient, velocity, bias = arrays[:4]
    if not is_last(node, arrays[4:]):
        return velocity, bias
    with np.errstate(over="ignore", invalid="ignore"):
        step = velocity * step_scale(coefficient, rate, node.attrs.batch)
    forgotten = (coefficient != 0) & ~np.isfinite(velocity)
    return np.where(forgotten, np.float32(0), velocity), bias_moved(bias, coefficient, step)


def infer_count(types: Sequence[TensorType], attrs: CountSampleAttrs) -> list[TensorType]:
    _check_position(types, max(2, attrs.batch))
    return [TensorType((1,), DType.INT32)]


def count_sample(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """int32[1]; 0 after the last, and after what is no position."""
    (position,) = arrays
    inside = (position >= 0) & (position < node.attrs.batch - 1)
    return (np.where(inside, position + 1, 0 * position),)


def _check_position(types: Sequence[TensorType], batch: int) -> None:
    found = [(t.shape, t.dtype) for t in types]
    if found != ([((1,), DType.INT32)] if batch > 1 else []):
        raise ValueError(f"batches of {batch} take {'a' if batch > 1 else 'no'} position")


OPS: tuple[OpDef, ...] = (
    training_op(
        "accumulate_weights", infer_weights, accumulate_weights, AccumulateWeightsAttrs, macs,
        ((0, 4),), transient=(4,),
    ),
    training_op(
        "accumulate_bias", infer_bias, accumulate_bias, AccumulateAttrs, updates=((0, 3),),
        transient=(3,),
    ),
    training_op(
        "apply_weights", infer_apply, apply_weights, ApplyWeightsAttrs,
        updates=((0, 2), (1, 3), (2, 4), (3, 5)),
    ),
    training_op(
        "apply_bias", infer_apply_bias, apply_bias, CountSampleAttrs, updates=((0, 2), (1, 3))
    ),
    training_op(
        "count_sample", infer_count, count_sample, CountSampleAttrs, updates=((0, 0),),
        transient=(0,),
    ),
)  # fmt: skip

"""conv2d in a form that can learn: weights in natural order, split into frozen and trained input
channels, and the zero point of the input folded into the bias.

conv2d_trainable(x, frozen, trained, bias, multiplier, shift), int8, NHWC:
    acc = Σ over the whole window of x · w + bias        (the border reads as z_x)
    y   = clamp(requantize(acc) + z_y)

frozen [O,KH,KW,If] is constant, trained [O,KH,KW,It] is state, or constant and empty (It = 0). A
depthwise filter is whole in one of the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..ir.dtypes import Array, DType, TensorType
from ..ir.graph import Node, Value
from ..ir.opdef import Absent, OpDef
from ..quant.arithmetic import requantize, saturate
from . import _velocity_updates
from ._convolution import ConvolutionAttrs, correlate, exact_float
from ._gradient import (
    Gradient,
    GradientContext,
    channel_scales,
    frozen_channels,
    one_gradient,
)
from ._window import output_size


@dataclass(frozen=True)
class Conv2dTrainableAttrs(ConvolutionAttrs):
    """trained_channels: input channels of `trained`, ascending; the others are those of `frozen`.

    update_channels: of a depthwise layer, the channels that move; empty: all. train_bias: whether
    the bias learns. q_clamp: the output's bounds.
    """

    trained_channels: tuple[int, ...] = ()
    update_channels: tuple[int, ...] = ()
    train_bias: bool = False
    q_clamp: tuple[int, int] = (-128, 127)


def infer(types: Sequence[TensorType], attrs: Conv2dTrainableAttrs) -> Sequence[TensorType]:
    if len(types) != 6:
        raise ValueError(f"takes 6 inputs, not {len(types)}")
    x, frozen, trained = types[:3]
    if x.rank != 4 or frozen.rank != 4 or frozen.shape[:3] != trained.shape[:3]:
        raise ValueError(f"cannot join the filters {frozen} and {trained} for {x}")
    out, kh, kw, kept = frozen.shape
    per_group = kept + trained.shape[3]
    if x.shape[3] != per_group * attrs.groups or out % attrs.groups:
        raise ValueError(f"filters {frozen} and {trained} do not match {x}, {attrs.groups} groups")
    if any(t.shape != (out,) for t in types[3:]):
        raise ValueError(f"expected {out} biases, multipliers and shifts")
    channels = attrs.trained_channels
    if len(channels) != trained.shape[3] or any(not 0 <= c < per_group for c in channels):
        raise ValueError(f"{trained} does not hold the channels {channels}")
    oh, ow = output_size((x.shape[1], x.shape[2]), (kh, kw), attrs)
    return (TensorType((x.shape[0], oh, ow, out), DType.INT8),)


def whole_filter(frozen: Array, trained: Array, trained_channels: tuple[int, ...]) -> Array:
    """[O,KH,KW,I], every input channel in its place."""
    if not frozen.shape[3]:
        return trained
    if not trained.shape[3]:
        return frozen
    channels = frozen.shape[3] + trained.shape[3]
    w = np.empty((*frozen.shape[:3], channels), np.result_type(frozen, trained))
    w[..., list(trained_channels)] = trained
    w[..., sorted(set(range(channels)) - set(trained_channels))] = frozen
    return w


def reference(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """int8; sums are exact and the accumulator fits int32."""
    x, frozen, trained, bias, multiplier, shift = arrays
    attrs: Conv2dTrainableAttrs = node.attrs
    w = whole_filter(frozen, trained, attrs.trained_channels)
    exact = exact_float(w[0].size, 128 * 128)
    zero_point = node.x.zero_point
    acc = correlate(x.astype(exact), w.astype(exact), attrs, zero_point).astype(np.int64) + bias
    return (saturate(requantize(acc, multiplier, shift) + node.y.zero_point, *attrs.q_clamp),)


def macs(node: Node) -> int:
    _, kh, kw, kept = node.inputs[1].type.shape
    return node.y.elements * kh * kw * (kept + node.inputs[2].type.shape[3])


def gradient(node: Node, gradients: Sequence[Gradient | None], context: GradientContext) -> None:
    """The gradient of the sums, from it the input's gradient and, at once, the updates."""
    from .conv2d_input_gradient import InputGradientAttrs

    attrs: Conv2dTrainableAttrs = node.attrs
    dy = one_gradient(gradients)
    x, frozen, trained, bias = node.inputs[:4]
    scales = channel_scales(frozen)
    dead = frozen_channels(scales, context.array(bias))
    factor = np.where(dead, 0.0, scales * x.type.scale / node.y.scale * dy.factor)
    mask = context.mask(node.outputs[0], *attrs.q_clamp)
    factors = context.constant(f"{node.name}.factor", factor.astype(np.float32))
    g, exponent = _gradient_of_sums(node, [dy.value, factors, mask], context)
    if context.wants(x):
        window = InputGradientAttrs(
            attrs.strides, attrs.pads, attrs.dilations, attrs.groups, attrs.trained_channels,
            x.type.shape,
        )  # fmt: skip
        inputs = [g, exponent, frozen, trained]
        (dx,) = context.emit("conv2d_input_gradient", inputs, window, f"{x.name}.gradient")
        context.add(x, dx, 1.0)
    new_bias = bias
    if trained.type.elements:
        new_bias = _update_weights(node, g, exponent, dead, context)
    if attrs.train_bias:
        factors = np.where(dead, 0.0, 1 / (scales * x.type.scale) ** 2).astype(np.float32)
        coefficient = context.constant(f"{bias.name}.coefficient", factors)
        if context.optimizer.keeps_velocity:
            new_bias = _velocity_updates.update_bias(
                [g, exponent], coefficient, new_bias, bias.name, context
            )
        else:
            inputs = [g, exponent, context.learning_rate, coefficient, new_bias]
            (new_bias,) = context.emit("bias_update", inputs, None, f"{bias.name}.new")
    if new_bias is not bias:
        context.update(bias, new_bias)


def _gradient_of_sums(
    node: Node, inputs: Sequence[Value], context: GradientContext
) -> Sequence[Value]:
    """(g, exponent): int8, or float32 with an exponent that is always 0."""
    name = f"{node.name}.gradient"
    if context.gradients == "int8":
        return context.emit("quantize_gradient", inputs, None, name)
    (g,) = context.emit("scale_gradient", inputs, None, name)
    return g, context.constant(f"{node.name}.exponent", np.zeros(1, np.int32))


def _update_weights(
    node: Node, g: Value, exponent: Value, dead: Array, context: GradientContext
) -> Value:
    """Emits the update of the trained weights; returns the bias that keeps z_x folded in."""
    from .weight_update import WeightUpdateAttrs, residual_start

    attrs: Conv2dTrainableAttrs = node.attrs
    x, frozen, trained, bias = node.inputs[:4]
    scales = channel_scales(frozen)
    factors = np.where(dead, 0.0, 1 / scales**2).astype(np.float32)
    coefficient = context.constant(f"{trained.name}.coefficient", factors)
    depthwise = attrs.groups > 1
    saved = context.save(x, attrs.update_channels if depthwise else attrs.trained_channels)
    if context.optimizer.keeps_velocity:
        return _velocity_updates.update_weights(node, [g, exponent, saved], coefficient, context)
    update = WeightUpdateAttrs(
        attrs.strides, attrs.pads, attrs.dilations, attrs.groups, context.rule,
        attrs.update_channels, context.optimizer.weight_decay,
    )  # fmt: skip
    inputs = [g, exponent, saved, context.learning_rate, coefficient, trained, bias]
    start = residual_start(update, trained.type.shape, f"{node.name}")
    if start is not None:
        inputs.append(context.state(f"{trained.name}.residual", start))
    made = context.emit("weight_update", inputs, update, f"{trained.name}.new")
    context.update(trained, made[0])
    if start is not None:
        context.update(inputs[-1], made[2])
    return made[1]


def trained_elements(node: Node) -> int:
    """How many weights move."""
    _, kh, kw, channels = node.inputs[2].type.shape
    moving = len(node.attrs.update_channels) or node.inputs[2].type.shape[0]
    return moving * kh * kw * channels


_MADE_HERE = "select_updates makes it from conv2d and dense"

OP = OpDef(
    name="conv2d_trainable",
    attrs=Conv2dTrainableAttrs,
    infer=infer,
    reference=reference,
    integer=Absent("it has an integer meaning only: its reference"),
    macs=macs,
    onnx_import=Absent(_MADE_HERE),
    onnx_export=Absent(_MADE_HERE),
    cases=Absent("its cases need state: tests/training_cases.py has them"),
    gradient=gradient,
)

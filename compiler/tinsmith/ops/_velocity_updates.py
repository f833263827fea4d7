"""What a layer that learns emits where gradients outlive their sample; see `velocity.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..ir.graph import Node, Value
from ._gradient import GradientContext
from .weight_update import moving_shape, residual_start

if TYPE_CHECKING:
    from .conv2d_trainable import Conv2dTrainableAttrs


def update_weights(
    node: Node, gradient: Sequence[Value], coefficient: Value, context: GradientContext
) -> Value:
    """Emits the updates of the weights of a conv2d_trainable node; returns its new bias.

    gradient: of its sums, the exponent, and the saved input.
    """
    from .velocity import AccumulateWeightsAttrs, ApplyWeightsAttrs, velocity_start

    attrs: Conv2dTrainableAttrs = node.attrs
    trained, bias = node.inputs[2:4]
    optimizer, position = context.optimizer, _position(context)
    apply = ApplyWeightsAttrs(
        context.rule, attrs.update_channels, optimizer.batch, optimizer.weight_decay,
        node.x.zero_point,
    )  # fmt: skip
    start = velocity_start(moving_shape(apply, trained.type.shape))
    velocity = context.state(f"{trained.name}.velocity", start)
    accumulate = AccumulateWeightsAttrs(
        attrs.strides, attrs.pads, attrs.dilations, attrs.groups, attrs.update_channels,
        optimizer.batch, optimizer.momentum,
    )  # fmt: skip
    (total,) = context.emit(
        "accumulate_weights", [*gradient, coefficient, velocity, *position], accumulate,
        f"{trained.name}.accumulated",
    )  # fmt: skip
    first = residual_start(apply, trained.type.shape, node.name)
    residual = [] if first is None else [context.state(f"{trained.name}.residual", first)]
    old = [trained, bias, *residual]
    inputs = [context.learning_rate, coefficient, total, *old, *position]
    new = context.emit("apply_weights", inputs, apply, f"{trained.name}.new")
    context.update(velocity, new[0])
    context.update(trained, new[1])
    for state, after in zip(residual, new[3:], strict=True):
        context.update(state, after)
    return new[2]


def update_bias(
    gradient: Sequence[Value], coefficient: Value, bias: Value, hint: str, context: GradientContext
) -> Value:
    """Emits the updates of a bias; returns the new one. gradient: of the sums, the exponent."""
    from .velocity import AccumulateAttrs, CountSampleAttrs, velocity_start

    optimizer, position = context.optimizer, _position(context)
    velocity = context.state(f"{hint}.velocity", velocity_start(bias.type.shape))
    accumulate = AccumulateAttrs(optimizer.batch, optimizer.momentum)
    inputs = [*gradient, coefficient, velocity, *position]
    (total,) = context.emit("accumulate_bias", inputs, accumulate, f"{hint}.accumulated")
    inputs = [context.learning_rate, coefficient, total, bias, *position]
    apply = CountSampleAttrs(optimizer.batch)
    after, new = context.emit("apply_bias", inputs, apply, f"{hint}.new")
    context.update(velocity, after)
    return new


def _position(context: GradientContext) -> list[Value]:
    return [] if context.position is None else [context.position]

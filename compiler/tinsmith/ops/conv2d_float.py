"""conv2d of a float32 network that learns: weights split into frozen and trained input channels.

conv2d_float(x, frozen, trained, bias), float32, NHWC:
    y = clamp(Σ x · w + bias)
The sum is taken over the channels of `frozen`, then those of `trained`: by taps in rows, then by
channels, ascending, in single operations. The filters are as conv2d_trainable's; `trained` and the
bias learn by plain SGD, `ops/sgd_update.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..ir.dtypes import Array, DType, TensorType
from ..ir.graph import Node, Value
from ..ir.opdef import Absent, OpDef
from ._clamp import UNBOUNDED, Clamp, apply_clamp
from ._convolution import ConvolutionAttrs
from ._gradient import Gradient, GradientContext, masked, one_gradient
from ._ordered_sums import ordered_correlation
from ._window import output_size


@dataclass(frozen=True)
class Conv2dFloatAttrs(ConvolutionAttrs):
    """As of conv2d_trainable; clamp: real bounds of a fused activation."""

    trained_channels: tuple[int, ...] = ()
    update_channels: tuple[int, ...] = ()
    train_bias: bool = False
    clamp: Clamp = UNBOUNDED


def infer(types: Sequence[TensorType], attrs: Conv2dFloatAttrs) -> Sequence[TensorType]:
    x, frozen, trained, bias = types
    if any(t.dtype is not DType.FLOAT32 for t in types):
        raise ValueError(f"takes float32, not {', '.join(map(str, types))}")
    if x.rank != 4 or frozen.rank != 4 or frozen.shape[:3] != trained.shape[:3]:
        raise ValueError(f"cannot join the filters {frozen} and {trained} for {x}")
    out, kh, kw, kept = frozen.shape
    per_group = kept + trained.shape[3]
    if x.shape[3] != per_group * attrs.groups or out % attrs.groups or bias.shape != (out,):
        raise ValueError(f"filters {frozen} and {trained} do not match {x}, {attrs.groups} groups")
    channels = attrs.trained_channels
    if len(channels) != trained.shape[3] or any(not 0 <= c < per_group for c in channels):
        raise ValueError(f"{trained} does not hold the channels {channels}")
    size = output_size((x.shape[1], x.shape[2]), (kh, kw), attrs)
    return (TensorType((x.shape[0], *size, out), DType.FLOAT32),)


def reference(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """float32."""
    x, frozen, trained, bias = arrays
    attrs: Conv2dFloatAttrs = node.attrs
    learn = list(attrs.trained_channels)
    kept = [c for c in range(x.shape[3] // attrs.groups) if c not in set(learn)]
    parts = [(frozen, kept), (trained, learn)]
    y = ordered_correlation(x, [p for p in parts if p[1]], attrs)
    return (apply_clamp(y + bias, attrs.clamp),)


def macs(node: Node) -> int:
    _, kh, kw, kept = node.inputs[1].type.shape
    return node.y.elements * kh * kw * (kept + node.inputs[2].type.shape[3])


def gradient(node: Node, gradients: Sequence[Gradient | None], context: GradientContext) -> None:
    """The input's gradient and, at once, the updates."""
    from .conv2d_input_gradient import InputGradientAttrs

    attrs: Conv2dFloatAttrs = node.attrs
    dy = masked(node, one_gradient(gradients), context)
    x, frozen, trained, _ = node.inputs
    if context.wants(x):
        window = InputGradientAttrs(
            attrs.strides, attrs.pads, attrs.dilations, attrs.groups, attrs.trained_channels,
            x.type.shape,
        )  # fmt: skip
        exponent = context.constant(f"{node.name}.exponent", np.zeros(1, np.int32))
        inputs = [dy.value, exponent, frozen, trained]
        (dx,) = context.emit("conv2d_input_gradient", inputs, window, f"{x.name}.gradient")
        context.add(x, dx, dy.factor)
    _update(node, dy, context)


def _update(node: Node, dy: Gradient, context: GradientContext) -> None:
    from .sgd_update import SgdBiasAttrs, SgdWeightsAttrs

    attrs: Conv2dFloatAttrs = node.attrs
    x, _, trained, bias = node.inputs
    if trained.type.elements:
        channels = attrs.update_channels if attrs.groups > 1 else attrs.trained_channels
        own = SgdWeightsAttrs(
            attrs.strides, attrs.pads, attrs.dilations, attrs.groups, dy.factor,
            attrs.update_channels,
        )  # fmt: skip
        inputs = [dy.value, context.save(x, channels), context.learning_rate, trained]
        _new(context, "sgd_weights", inputs, own)
    if attrs.train_bias:
        inputs = [dy.value, context.learning_rate, bias]
        _new(context, "sgd_bias", inputs, SgdBiasAttrs(dy.factor))


def _new(context: GradientContext, op: str, inputs: list[Value], attrs: object) -> None:
    (new,) = context.emit(op, inputs, attrs, f"{inputs[-1].name}.new")
    context.update(inputs[-1], new)


_MADE_HERE = "select_float_updates makes it from conv2d and dense"

OP = OpDef(
    name="conv2d_float",
    attrs=Conv2dFloatAttrs,
    infer=infer,
    reference=reference,
    integer=Absent("it is float32"),
    macs=macs,
    onnx_import=Absent(_MADE_HERE),
    onnx_export=Absent(_MADE_HERE),
    cases=Absent("its cases need state: tests/training_cases.py has them"),
    gradient=gradient,
)

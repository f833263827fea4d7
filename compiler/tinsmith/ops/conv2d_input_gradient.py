"""The gradient of a convolution's int8 input from the gradient of its sums.

conv2d_input_gradient(g, exponent, frozen, trained) → dx float32, of the input's shape:
    dx = float32(Σ over outputs and taps of g · w) · 2^exponent;   the sums are exact int32
A float32 g has the exponent 0, a constant, and sums in the order of `ops/_ordered_sums.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..ir.dtypes import Array, DType, Shape, TensorType
from ..ir.graph import Node
from ._convolution import ConvolutionAttrs, exact_float, input_gradient
from ._gradient import is_gradient, power_of_two, training_op
from ._ordered_sums import ordered_input_gradient
from ._window import output_size
from .conv2d_trainable import whole_filter


@dataclass(frozen=True)
class InputGradientAttrs(ConvolutionAttrs):
    """trained_channels: as of the layer. shape: of its input, and so of the output here."""

    trained_channels: tuple[int, ...] = ()
    shape: Shape = ()


def infer(types: Sequence[TensorType], attrs: InputGradientAttrs) -> Sequence[TensorType]:
    g, exponent, frozen, trained = types
    out, kh, kw, kept = frozen.shape
    channels = (kept + trained.shape[3]) * attrs.groups
    size = output_size((attrs.shape[1], attrs.shape[2]), (kh, kw), attrs)
    if attrs.shape[3] != channels or g.shape != (attrs.shape[0], *size, out):
        raise ValueError(f"{g} is not the gradient of a layer from {attrs.shape} by {frozen}")
    if not is_gradient(g) or exponent.shape != (1,):
        raise ValueError(f"takes a gradient and its exponent, not {g} and {exponent}")
    return (TensorType(attrs.shape, DType.FLOAT32),)


def reference(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """float32."""
    g, exponent, frozen, trained = arrays
    attrs: InputGradientAttrs = node.attrs
    w = whole_filter(frozen, trained, attrs.trained_channels)
    if node.x.dtype is DType.FLOAT32:
        return (ordered_input_gradient(g, w, attrs, attrs.shape),)
    exact = exact_float(w[..., 0].size // attrs.groups, 127 * 128)
    sums = input_gradient(g.astype(exact), w.astype(exact), attrs, attrs.shape)
    return (sums.astype(np.float32) * power_of_two(exponent),)


def macs(node: Node) -> int:
    _, kh, kw, kept = node.inputs[2].type.shape
    return node.x.elements * kh * kw * (kept + node.inputs[3].type.shape[3])


OP = training_op("conv2d_input_gradient", infer, reference, InputGradientAttrs, macs)

"""Plain SGD on float32 weights and biases, fused with their gradients.

sgd_weights(g, x_saved, learning_rate[1], trained) {factor} → trained'
    dw = Σ over pixels of g[p,o] · x_saved[p,i]
    trained' = trained − dw · (factor · learning_rate)
    of a depthwise layer that learns in part only `update_channels`
sgd_bias(g, learning_rate[1], bias) {factor} → bias'
    bias' = bias − (Σ over pixels of g) · (factor · learning_rate)

Sums are in the order of `ops/_ordered_sums.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..ir.dtypes import Array, DType, TensorType
from ..ir.graph import Node
from ._convolution import ConvolutionAttrs
from ._gradient import training_op
from ._ordered_sums import ordered_filter_gradient, ordered_sum

_F32 = DType.FLOAT32


@dataclass(frozen=True)
class SgdWeightsAttrs(ConvolutionAttrs):
    """factor: of the gradient. update_channels: of a depthwise layer that learns in part."""

    factor: float = 1.0
    update_channels: tuple[int, ...] = ()


@dataclass(frozen=True)
class SgdBiasAttrs:
    """factor: of the gradient."""

    factor: float = 1.0


def infer_weights(types: Sequence[TensorType], attrs: SgdWeightsAttrs) -> Sequence[TensorType]:
    g, x, rate, trained = types
    out = trained.shape[0]
    rows = len(attrs.update_channels) or out
    channels = trained.shape[3] * (rows if attrs.groups == out else attrs.groups)
    if any(t.dtype is not _F32 for t in types) or g.shape[3] != out or rate.shape != (1,):
        raise ValueError(f"{g} and {rate} do not move {trained}")
    if x.shape[3] != channels:
        raise ValueError(f"the saved input {x} has not the {channels} channels that train")
    return (TensorType(trained.shape, _F32),)


def step_of(factor: float, rate: Array) -> np.float32:
    """factor · learning_rate, float32."""
    return np.float32(np.float32(factor) * rate[0])


def update_weights(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """float32 of the shape of `trained`."""
    g, x, rate, trained = arrays
    attrs: SgdWeightsAttrs = node.attrs
    rows = list(attrs.update_channels or range(trained.shape[0]))
    kernel = (trained.shape[1], trained.shape[2])
    dw = ordered_filter_gradient(g[..., rows], x, kernel, trained.shape[3], attrs)
    new = trained.copy()
    with np.errstate(over="ignore", invalid="ignore"):
        new[rows] -= dw * step_of(attrs.factor, rate)
    return (new,)


def macs(node: Node) -> int:
    trained = node.inputs[3].type
    rows = len(node.attrs.update_channels) or trained.shape[0]
    return node.x.shape[1] * node.x.shape[2] * trained.elements // trained.shape[0] * rows


def infer_bias(types: Sequence[TensorType], attrs: SgdBiasAttrs) -> Sequence[TensorType]:
    del attrs
    g, rate, bias = types
    wrong = any(t.dtype is not _F32 for t in types)
    if wrong or rate.shape != (1,) or bias.shape != g.shape[-1:]:
        raise ValueError(f"{g} and {rate} do not move {bias}")
    return (TensorType(bias.shape, _F32),)


def update_bias(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """float32[O]."""
    g, rate, bias = arrays
    with np.errstate(over="ignore", invalid="ignore"):
        return (bias - ordered_sum(g) * step_of(node.attrs.factor, rate),)


OPS = (
    training_op("sgd_weights", infer_weights, update_weights, SgdWeightsAttrs, macs, ((0, 3),)),
    training_op("sgd_bias", infer_bias, update_bias, SgdBiasAttrs, updates=((0, 2),)),
)

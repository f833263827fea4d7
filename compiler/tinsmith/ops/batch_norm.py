"""batch_norm in inference form: y = (x − mean) / √(variance + epsilon) · scale + bias, per channel.

Float only: `fold_batch_norm` puts it into convolutions before anything is quantised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..ir.dtypes import Array, TensorType
from ..ir.graph import Node, Value
from ..ir.opdef import Absent, Case, OpDef
from ._onnx import ExportContext, ImportContext, OnnxNode


@dataclass(frozen=True)
class BatchNormAttrs:
    """layout: channels are axis 1 in NCHW (also of 2-D and 3-D inputs), the last axis in NHWC."""

    epsilon: float = 1e-5
    layout: Literal["NCHW", "NHWC"] = "NCHW"


def infer(types: Sequence[TensorType], attrs: BatchNormAttrs) -> Sequence[TensorType]:
    x, *parameters = types
    if x.rank < 2:
        raise ValueError(f"takes a tensor with a channel axis, not {x}")
    channels = x.shape[channel_axis(attrs)]
    if any(p.shape != (channels,) for p in parameters) or len(parameters) != 4:
        raise ValueError(f"expected scale, bias, mean and variance of {channels} elements")
    return (TensorType(x.shape, x.dtype),)


def channel_axis(attrs: BatchNormAttrs) -> int:
    return 1 if attrs.layout == "NCHW" else -1


def affine(
    attrs: BatchNormAttrs, scale: Array, bias: Array, mean: Array, variance: Array
) -> tuple[Array, Array]:
    """(factor, offset) with y = x · factor + offset, float64 [C]."""
    factor = scale.astype(np.float64) / np.sqrt(variance.astype(np.float64) + attrs.epsilon)
    return factor, bias - mean * factor


def reference(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """x · factor + offset along the channel axis, float32."""
    x, scale, bias, mean, variance = arrays
    shape = [1] * x.ndim
    shape[channel_axis(node.attrs)] = -1
    factor, offset = affine(node.attrs, scale, bias, mean, variance)
    return ((x * factor.reshape(shape) + offset.reshape(shape)).astype(np.float32),)


def macs(node: Node) -> int:
    return node.y.elements


def import_batch_norm(node: OnnxNode, out: ImportContext) -> Sequence[Value]:
    if node.attr("training_mode", 0) or node.output_count > 1:
        node.fail("it is in training mode; export the model for inference")
    return out.emit(
        OP, [node.x(i) for i in range(5)], BatchNormAttrs(float(node.attr("epsilon", 1e-5)))
    )


def export(node: Node, out: ExportContext) -> None:
    names = [out.name(v) for v in node.inputs]
    result = [out.name(node.outputs[0])]
    out.node("BatchNormalization", names, result, epsilon=node.attrs.epsilon)


_POSITIVE = np.array([0.5, 1.25, 2.0, 0.75, 1.0], np.float32)
_PARAMETERS = ((5,), (5,), (5,), _POSITIVE)
_FLOAT_ONLY = "fold_batch_norm folds it into a convolution"

OP = OpDef(
    name="batch_norm",
    attrs=BatchNormAttrs,
    infer=infer,
    reference=reference,
    integer=Absent(_FLOAT_ONLY),
    macs=macs,
    onnx_import={"BatchNormalization": import_batch_norm},
    onnx_export=export,
    cases=(
        Case("image", ((1, 5, 4, 3),), params=_PARAMETERS, float_only=_FLOAT_ONLY),
        Case("vector", ((2, 5),), params=_PARAMETERS, float_only=_FLOAT_ONLY),
    ),
)

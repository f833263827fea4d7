"""quantize and dequantize: where real and integer values meet, per tensor or per channel.

They live only in FLOAT graphs: `fold_qdq` turns `dequantize → op → quantize` into an integer node.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..ir.dtypes import Array, DType, Quant, TensorType
from ..ir.graph import Node, Value
from ..ir.opdef import Absent, Case, NoAttrs, OpDef, no_macs
from ..quant.arithmetic import dequantize_array, quantize_array
from ._onnx import ExportContext, ImportContext, OnnxNode

_STORED = ("int8", "uint8", "int16", "int32")
_UINT8_OFFSET = 128


@dataclass(frozen=True)
class QuantizeAttrs:
    """scale, zero_point: one, or one per index of `axis`. dtype: int8 or int32."""

    scale: tuple[float, ...] = (1.0,)
    zero_point: tuple[int, ...] = (0,)
    axis: int | None = None
    dtype: str = "int8"

    @property
    def quant(self) -> Quant:
        return Quant(self.scale, self.zero_point, self.axis)

    @staticmethod
    def of(quant: Quant, dtype: str = "int8") -> QuantizeAttrs:
        """The attributes that quantise to `quant`."""
        return QuantizeAttrs(quant.scale, quant.zero_point, quant.axis, dtype)


def infer_quantize(types: Sequence[TensorType], attrs: QuantizeAttrs) -> Sequence[TensorType]:
    (x,) = types
    if x.dtype is not DType.FLOAT32:
        raise ValueError(f"quantises float32, not {x}")
    _check_axis(x, attrs.quant)
    return (x.with_dtype(DType(attrs.dtype), attrs.quant),)


def infer_dequantize(types: Sequence[TensorType], attrs: NoAttrs) -> Sequence[TensorType]:
    del attrs
    (x,) = types
    if x.quant is None:
        raise ValueError(f"{x} has no scale")
    _check_axis(x, x.quant)
    return (x.with_dtype(DType.FLOAT32),)


def _check_axis(x: TensorType, quant: Quant) -> None:
    if quant.axis is None:
        return
    if not 0 <= quant.axis < x.rank or x.shape[quant.axis] != len(quant.scale):
        raise ValueError(f"{len(quant.scale)} scales do not match axis {quant.axis} of {x}")


def quantize_reference(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """saturate(round-half-even(x / scale) + zero_point)."""
    attrs: QuantizeAttrs = node.attrs
    type_ = node.x.with_dtype(DType(attrs.dtype), attrs.quant)
    return (quantize_array(arrays[0], type_),)


def dequantize_reference(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """scale · (q − zero_point) in float32."""
    return (dequantize_array(arrays[0], node.x),)


def import_quantize(node: OnnxNode, out: ImportContext) -> Sequence[Value]:
    """ONNX QuantizeLinear; uint8 becomes int8 with the zero point 128 lower."""
    x = node.x(0)
    quant, stored = _parameters(node, x.type, "uint8")
    if stored not in ("int8", "uint8"):
        node.fail(f"quantising to {stored} is not supported; int8 and uint8 are")
    return out.emit(QUANTIZE, [x], QuantizeAttrs.of(quant))


def import_dequantize(node: OnnxNode, out: ImportContext) -> Sequence[Value]:
    """ONNX DequantizeLinear of an activation, or of a constant int8, uint8 or int32 tensor."""
    x = node.x(0)
    quant, stored = _parameters(node, x.type, x.type.dtype.value)
    array = out.array(x)
    if array is not None:
        if array.dtype == np.uint8:
            array = (array.astype(np.int16) - _UINT8_OFFSET).astype(np.int8)
        x = out.constant(f"{x.name}.q", array, quant)
    elif x.type.quant is None:
        node.fail("its input is an integer tensor of unknown scale")
    elif stored not in ("int8", "uint8"):
        node.fail(f"its zero point is {stored}, and its input is not")
    elif x.type.quant != quant:
        node.fail("its scale and zero point differ from those its input was quantised with")
    return out.emit(DEQUANTIZE, [x])


def _parameters(node: OnnxNode, x: TensorType, default: str) -> tuple[Quant, str]:
    """The quantisation in int8 terms, and the type the ONNX model stores."""
    if node.attr("block_size", 0):
        node.fail("blocked quantisation is not supported; per tensor and per channel are")
    scale, zero = node.array(1), node.array(2) if len(node.inputs) > 2 else None
    if scale is None:
        node.fail("the scale is not given")
    if scale.dtype.kind != "f" or scale.ndim > 1:
        node.fail(f"the scale is {scale.dtype}{list(scale.shape)}, expected one or a row of floats")
    stored = str(zero.dtype) if zero is not None else default
    if stored not in _STORED:
        node.fail(f"{stored} tensors are not supported; {', '.join(_STORED)} are")
    scales = np.ravel(scale).astype(np.float32)
    if scales.size == 0 or not np.all(np.isfinite(scales)) or np.any(scales <= 0):
        node.fail("a scale is not a positive finite number")
    zeros = np.zeros(scales.size, np.int64) if zero is None else np.ravel(zero).astype(np.int64)
    if zeros.size != scales.size:
        node.fail(f"{scales.size} scales do not pair up with {zeros.size} zero points")
    if stored == "uint8":
        zeros = zeros - _UINT8_OFFSET
    axis = _axis(node, x, scales.size, scale.ndim)
    return Quant(tuple(map(float, scales)), tuple(map(int, zeros)), axis), stored


def _axis(node: OnnxNode, x: TensorType, count: int, scale_rank: int) -> int | None:
    if scale_rank == 0 or (count == 1 and x.rank == 0):
        return None
    axis = int(node.attr("axis", 1))
    axis += x.rank if axis < 0 else 0
    if 0 <= axis < x.rank and x.shape[axis] == count:
        return axis if count > 1 else None
    if count == 1:
        return None
    node.fail(f"{count} scales do not match axis {axis} of {x}")


def export_quantize(node: Node, out: ExportContext) -> None:
    _export("QuantizeLinear", node, out, node.attrs.quant, node.attrs.dtype)


def export_dequantize(node: Node, out: ExportContext) -> None:
    assert node.x.quant is not None
    _export("DequantizeLinear", node, out, node.x.quant, node.x.dtype.value)


def _export(op_type: str, node: Node, out: ExportContext, quant: Quant, dtype: str) -> None:
    scale = np.array(quant.scale, np.float32)
    zero = np.array(quant.zero_point, dtype)
    if quant.axis is None:
        scale, zero = scale.reshape(()), zero.reshape(())
    parameters = [out.constant("scale", scale), out.constant("zero_point", zero)]
    axis = {} if quant.axis is None else {"axis": quant.axis}
    names = [out.name(node.inputs[0]), *parameters]
    out.node(op_type, names, [out.name(node.outputs[0])], **axis)


_ONLY_FLOAT = "fold_qdq folds it into the operators around it"

QUANTIZE = OpDef(
    name="quantize",
    attrs=QuantizeAttrs,
    infer=infer_quantize,
    reference=quantize_reference,
    integer=Absent(_ONLY_FLOAT),
    macs=no_macs,
    onnx_import={"QuantizeLinear": import_quantize},
    onnx_export=export_quantize,
    cases=(
        Case("tensor", ((1, 3, 4),), QuantizeAttrs((0.01,), (-3,)), float_only=_ONLY_FLOAT),
        Case(
            "channel",
            ((4, 3, 2),),
            QuantizeAttrs((0.01, 0.02, 0.004), (0, 5, -9), 1),
            float_only=_ONLY_FLOAT,
        ),
    ),
)

DEQUANTIZE = OpDef(
    name="dequantize",
    attrs=NoAttrs,
    infer=infer_dequantize,
    reference=dequantize_reference,
    integer=Absent(_ONLY_FLOAT),
    macs=no_macs,
    onnx_import={"DequantizeLinear": import_dequantize},
    onnx_export=export_dequantize,
    cases=Absent("its input is int8, not a float tensor; the cases of quantize run it backwards"),
)

OPS = (QUANTIZE, DEQUANTIZE)

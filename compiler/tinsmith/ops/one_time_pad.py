"""A layer computed on blinded integers, in the ring Z_2^32: sums wrap, and nothing is lost.

blind(x, pad, order) → m: int32, m[…, i] = (x[…, order[i]] − z_x) + pad[…, i]
ring_conv2d(w, m) → u: int32, the convolution of m with an int8 filter; the border counts as 0
unblind(u, pad, w, bias, multiplier, shift, order) → y: int8,
    y[…, j] = clamp(requantize(v[…, order[j]]) + z_y),  v = u − ring_conv2d(w, pad) + bias

With a pad that is uniform, secret and used once, m is uniform whatever x and the order are. v is
exact, for the sums of the layer itself fit int32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..ir.dtypes import Array, DType, TensorType
from ..ir.graph import Node
from ..ir.opdef import Absent, IntegerRule, NoAttrs, OpDef, no_macs
from ..ir.rewrite import Rewriter
from ..quant.arithmetic import requantize, saturate
from ._convolution import ConvolutionAttrs, correlate
from ._window import output_size


@dataclass(frozen=True)
class UnblindAttrs(ConvolutionAttrs):
    """The layer's window. q_clamp: bounds of the output's integers."""

    q_clamp: tuple[int, int] = (-128, 127)


def infer_blind(types: Sequence[TensorType], attrs: NoAttrs) -> Sequence[TensorType]:
    del attrs
    x, pad, order = types
    if x.dtype is not DType.INT8 or pad != TensorType(x.shape, DType.INT32):
        raise ValueError(f"takes int8 and an int32 pad of its shape, not {x} and {pad}")
    _check_order(order, x.shape[-1])
    return (TensorType(x.shape, DType.INT32),)


def infer_ring(types: Sequence[TensorType], attrs: ConvolutionAttrs) -> Sequence[TensorType]:
    w, m = types
    if m.dtype is not DType.INT32 or w.dtype is not DType.INT8 or m.rank != 4 or w.rank != 4:
        raise ValueError(f"takes an int8 filter and int32 [N,H,W,C], not {w} and {m}")
    if m.shape[3] != w.shape[3] * attrs.groups or w.shape[0] % attrs.groups:
        raise ValueError(f"{w} in {attrs.groups} group(s) does not fit {m}")
    size = output_size((m.shape[1], m.shape[2]), (w.shape[1], w.shape[2]), attrs)
    return (TensorType((m.shape[0], *size, w.shape[0]), DType.INT32),)


def infer_unblind(types: Sequence[TensorType], attrs: UnblindAttrs) -> Sequence[TensorType]:
    u, pad, w, *per_channel, order = types
    (expected,) = infer_ring([w, pad], attrs)
    if u != expected:
        raise ValueError(f"{u} is not {expected}, what the blinded layer makes")
    if len(per_channel) != 3 or any(t.shape != u.shape[3:] for t in per_channel):
        raise ValueError(f"expected a bias, multipliers and shifts of {u.shape[3]} channels")
    _check_order(order, u.shape[3])
    return (TensorType(u.shape, DType.INT8),)


def _check_order(order: TensorType, channels: int) -> None:
    if order.dtype is not DType.INT32 or order.shape != (channels,):
        raise ValueError(f"{order} is not an order of {channels} channels")


def blind(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """x int8 and pad int32 [..., C], order int32 [C] → int32 [..., C]."""
    x, pad, order = arrays
    centred = x[..., order].astype(np.int64) - node.x.zero_point
    return (wrap(centred + pad),)


def ring_conv2d(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """w int8 [O,KH,KW,I], m int32 [N,H,W,C] → int32 [N,OH,OW,O], modulo 2^32."""
    w, m = arrays
    return (wrap(_ring(w, m, node.attrs)),)


def unblind(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """u int32 [N,OH,OW,O], pad int32 [N,H,W,C]; the constants in u's order → int8."""
    u, pad, w, bias, multiplier, shift, order = arrays
    attrs: UnblindAttrs = node.attrs
    acc = wrap(u.astype(np.int64) - _ring(w, pad, attrs) + bias).astype(np.int64)
    y = requantize(acc, multiplier, shift) + node.y.zero_point
    return (saturate(y[..., order], *attrs.q_clamp),)


def wrap(values: Array) -> Array:
    """int64 → int32 modulo 2^32."""
    return values.astype(np.uint64).astype(np.uint32).view(np.int32)


def _ring(w: Array, m: Array, attrs: ConvolutionAttrs) -> Array:
    """The sums in int64. Halves of 16 bits keep every product exact in float64."""
    low, high = (m & 0xFFFF).astype(np.float64), (m >> 16).astype(np.float64)
    filters = w.astype(np.float64)
    parts = (correlate(half, filters, attrs, 0.0).astype(np.int64) for half in (low, high))
    return next(parts) + (next(parts) << 16)


def macs(node: Node) -> int:
    w = node.inputs[2 if node.op is UNBLIND else 0].type.shape
    return node.y.elements * w[1] * w[2] * w[3]


def lower(node: Node, rewriter: Rewriter) -> None:
    """Already lowered."""
    rewriter.keep(node)


_MADE_HERE = Absent("the trusted partition makes it; no ONNX operator is like it")
_CASES = Absent("its int32 operands need cases of their own: tests/test_trust_kernels.py")
_NO_GRADIENT = Absent("the trusted partition protects inference")

BLIND = OpDef(
    name="blind",
    attrs=NoAttrs,
    infer=infer_blind,
    reference=blind,
    integer=IntegerRule(lower=lower, reference=blind),
    macs=no_macs,
    onnx_import=_MADE_HERE,
    onnx_export=_MADE_HERE,
    cases=_CASES,
    gradient=_NO_GRADIENT,
)

RING_CONV2D = OpDef(
    name="ring_conv2d",
    attrs=ConvolutionAttrs,
    infer=infer_ring,
    reference=ring_conv2d,
    integer=IntegerRule(lower=lower, reference=ring_conv2d),
    macs=macs,
    onnx_import=_MADE_HERE,
    onnx_export=_MADE_HERE,
    cases=_CASES,
    gradient=_NO_GRADIENT,
)

UNBLIND = OpDef(
    name="unblind",
    attrs=UnblindAttrs,
    infer=infer_unblind,
    reference=unblind,
    integer=IntegerRule(lower=lower, reference=unblind),
    macs=macs,
    onnx_import=_MADE_HERE,
    onnx_export=_MADE_HERE,
    cases=_CASES,
    gradient=_NO_GRADIENT,
)

OPS = (BLIND, RING_CONV2D, UNBLIND)

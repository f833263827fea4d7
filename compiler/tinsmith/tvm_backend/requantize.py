"""The exact requantisation that ends every integer rule: `(int64(acc)·m + bias) >> s`, half up.

The rounding constant, the zero point of the input and the offset of its storage are in the bias.
The multiplier stays int32: with a sum of int32 and int32 in front of the product LLVM no longer
sees two 32-bit operands, and emits a 64-bit multiplication that is several times slower.
Expressions are TE's or TIR's, scalars or vectors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..ir.dtypes import Array
from ..kernels import Constant
from .import_tvm import Expr, T, tirx
from .rule import Site

_INT64 = 2**63
_ACC = 2**31


@dataclass(frozen=True)
class Clamp:
    """How an output is stored. All in the integers of storage: offset included.

    zero_point: added after the shift. low, high: bounds of `q_clamp`. dtype: "int8" or "uint8".
    """

    zero_point: int
    low: int
    high: int
    dtype: str


def clamp_of(site: Site, q_clamp: tuple[int, int] = (-128, 127)) -> Clamp:
    """Of the node's first output."""
    y = site.node.outputs[0]
    offset = site.offset(y)
    low, high = q_clamp
    return Clamp(y.type.zero_point + offset, low + offset, high + offset, site.dtype(y))


def cast(value: Expr, dtype: str) -> Expr:
    """`value` as another element type, with as many lanes."""
    lanes = _lanes(value)
    return value.astype(f"{dtype}x{lanes}" if lanes else dtype)


def constant(value: int, like: Expr, dtype: str = "int32") -> Expr:
    """An integer with as many lanes as `like`."""
    lanes = _lanes(like)
    scalar = tirx.const(int(value), dtype)
    return T.broadcast(scalar, int(lanes)) if lanes else scalar


def rescale(acc: Expr, m: Expr, bias: Expr, s: Expr) -> Expr:
    """int32 of (int64(acc)·m + bias) >> s. acc, m: int32; bias, s: int64."""
    return cast((cast(acc, "int64") * cast(m, "int64") + bias) >> s, "int32")


def clamped(value: Expr, clamp: Clamp) -> Expr:
    """A rescaled int32 as it is stored."""
    moved = value + constant(clamp.zero_point, value)
    low, high = constant(clamp.low, value), constant(clamp.high, value)
    return cast(tirx.max(tirx.min(moved, high), low), clamp.dtype)


def right_shifts(multiplier: Array, shift: Array) -> tuple[Array, Array]:
    """(int32 multiplier, int64 right shift 1…62) of a lowered node's constants."""
    right = 31 - shift.astype(np.int64)
    dead = right > 62
    return np.where(dead, 0, multiplier).astype(np.int32), np.where(dead, 31, right)


def folded_bias(bias: Array, multiplier: Array, right: Array) -> Array:
    """int64 bias·m + 2^(s−1); bias: int64, in units of the accumulator."""
    return bias * multiplier.astype(np.int64) + (np.int64(1) << (right - 1))


def is_exact(weights: Array, bias: Array, zero_point: int) -> bool:
    """Whether no sum of a channel can leave int32, nor its rescaling int64, however stored.

    weights: [O, ...] int8; bias: [O] int32. Storage may add 128, so inputs are up to 255.
    """
    w = weights.astype(np.int64).reshape(len(weights), -1)
    largest = 255 * np.abs(w).sum(axis=1)
    moved = np.abs(bias.astype(np.int64)) + (abs(zero_point) + 128) * np.abs(w.sum(axis=1))
    fits = (largest < _ACC) & ((largest + moved + 1) * _ACC < _INT64)
    return bool(fits.all())


def channel_constants(site: Site, weights: Array, pad_to: int = 1) -> dict[str, Constant]:
    """`multiplier` int32, `bias` int64, `shift` int64 of a conv2d or dense node, per channel.

    weights: [O, ...] int8. The input's zero point and storage offset are folded into the bias.
    Each is padded with channels that give 0 to a multiple of `pad_to`.
    """
    node, graph = site.node, site.graph
    bias, multiplier, shift = (graph.constant(v) for v in node.inputs[2:5])
    m, right = right_shifts(multiplier, shift)
    sums = weights.astype(np.int64).reshape(len(weights), -1).sum(axis=1)
    moved = bias.astype(np.int64) - (node.x.zero_point + site.offset(node.inputs[0])) * sums
    missing = -len(m) % pad_to
    return {
        "multiplier": Constant(np.pad(m, (0, missing)), 64),
        "bias": Constant(np.pad(folded_bias(moved, m, right), (0, missing)), 64),
        "shift": Constant(np.pad(right, (0, missing), constant_values=31), 64),
    }


def _lanes(value: Expr) -> str:
    """The lanes of a vector expression, "" of a scalar one; a tensor of TE has a `dtype` only."""
    return str(getattr(value, "ty", None) or value.dtype).partition("x")[2]

"""What the ends of integer rules share: how outputs are stored, and the constants of a rescaling.

Expressions are TIR's, scalars or vectors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..ir.dtypes import Array
from ..quant.arithmetic import MAX_RIGHT_SHIFT
from .import_tvm import Expr, T, tirx
from .rule import Site


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


def right_shifts(multiplier: Array, shift: Array) -> tuple[Array, Array]:
    """(int32 multiplier, int64 right shift 1…62) of a lowered node's constants."""
    right = 31 - shift.astype(np.int64)
    dead = right > MAX_RIGHT_SHIFT
    return np.where(dead, 0, multiplier).astype(np.int32), np.where(dead, 31, right)


def cast(value: Expr, dtype: str) -> Expr:
    """`value` as another element type, with as many lanes."""
    lanes = _lanes(value)
    return value.astype(f"{dtype}x{lanes}" if lanes else dtype)


def constant(value: int, like: Expr, dtype: str = "int32") -> Expr:
    """An integer with as many lanes as `like`."""
    lanes = _lanes(like)
    scalar = tirx.const(int(value), dtype)
    return T.broadcast(scalar, int(lanes)) if lanes else scalar


def _lanes(value: Expr) -> str:
    """The lanes of a vector, "" of a scalar."""
    return str(value.ty).partition("x")[2]

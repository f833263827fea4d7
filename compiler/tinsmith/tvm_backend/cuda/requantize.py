"""The integer epilogue in TE: one exact int64 rounding, half up (docs/tvm.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...ir.dtypes import Array
from ...ir.graph import Graph, Node
from ...kernels import Constant
from ..import_tvm import te

_NARROW_SHIFT = 32  # from here on the shifted product fits int32 with room for a zero point


@dataclass(frozen=True)
class Requantize:
    """y = clamp(((int64)acc·multiplier + bias) >> shift) + zero_point), all of it per channel.

    bias: int64, with the real bias, the input's zero point and the rounding folded in.
    """

    multiplier: Array
    bias: Array
    shift: Array
    zero_point: int
    low: int
    high: int

    @property
    def constants(self) -> dict[str, Constant]:
        """Kernel parameters in the order that the epilogue takes them."""
        arrays = {"multiplier": self.multiplier, "bias": self.bias, "shift": self.shift}
        return {name: Constant(array, 16) for name, array in arrays.items()}

    def placeholders(self) -> tuple[Any, Any, Any]:
        n = len(self.multiplier)
        return (
            te.placeholder((n,), "int32", "multiplier"),
            te.placeholder((n,), "int64", "bias"),
            te.placeholder((n,), "int32", "shift"),
        )

    def __call__(self, acc: Any, multiplier: Any, bias: Any, shift: Any) -> Any:
        """int32 accumulator and the three constants of its channel → int8."""
        value = acc.astype("int64") * multiplier.astype("int64") + bias
        value = value >> shift.astype("int64")
        if int(self.shift.min()) >= _NARROW_SHIFT:
            value = value.astype("int32")
        return clamp_s8(value + self.zero_point, self.low, self.high)


def requantize(
    node: Node, graph: Graph, sums: Array | int = 0, first: int = 1, bias: Array | None = None
) -> Requantize:
    """Of a lowered node whose constants from `first` on are [bias,] multiplier, shift.

    sums: Σw per channel: the accumulator sums w·x, not w·(x − zero_point). bias: instead of the
    node's own.
    """
    constants = [graph.constant(v).astype(np.int64) for v in node.inputs[first:]]
    if bias is None:
        bias, *constants = constants
    multiplier, shift = (np.atleast_1d(c) for c in constants)
    right = 31 - shift
    folded = bias - node.x.zero_point * np.asarray(sums, np.int64)
    rounded = folded * multiplier + (np.int64(1) << (right - 1))
    low, high = node.attrs.q_clamp
    return Requantize(
        multiplier.astype(np.int32),
        np.broadcast_to(rounded, multiplier.shape).astype(np.int64),
        right.astype(np.int32),
        node.y.zero_point,
        low,
        high,
    )


def clamp_s8(value: Any, low: int, high: int) -> Any:
    """An integer expression, clamped and stored as int8."""
    return te.max(te.min(value, high), low).astype("int8")


def rescale(acc: Any, node: Node) -> Any:
    """int32 accumulator of a node whose attributes hold one multiplier and shift → int8."""
    attrs = node.attrs
    right = 31 - attrs.shift
    value = acc.astype("int64") * te.const(attrs.multiplier, "int64")
    value = (value + te.const(1 << (right - 1), "int64")) >> te.const(right, "int64")
    low, high = getattr(attrs, "q_clamp", (-128, 127))
    return clamp_s8(value + te.const(node.y.zero_point, "int64"), low, high)

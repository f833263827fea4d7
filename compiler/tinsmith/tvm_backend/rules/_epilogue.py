"""The end of an int8 sum: requantised per channel, clamped, stored. Exact, in one of two forms.

The accumulators start at the bias less what the input's zero point and storage offset add, mod
2^32; the true sum fits int32, so it comes out exactly however the parts wrap.

narrow: where every total shift s is more than u = 31 or 32, (acc·m + 2^(s−1)) >> s equals
(((acc·m) >> u) + 2^(s−1−u)) >> (s − u): what is below 2^u cannot reach a rounding constant that is
a multiple of it. The zero point rides on the constant. u is what the instruction set is good at.
wide: the same in int64, for any shift.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...ir.dtypes import Array
from ...ir.graph import Graph, Node
from ...kernels import Constant
from ...quant.arithmetic import INT32_MAX, accumulator_bounds
from ..import_tvm import Expr, tirx
from ..intrinsics import saturating_pack, upper_part, upper_shift
from ..requantize import cast, clamp_of, constant, right_shifts
from ..rule import Site
from ._emit import Frame

_LEAST, _MOST = 33, 53  # total shifts of the narrow form: 255 << (53 − 31) leaves room in int32
_ALIGNMENT = 64


def fits(node: Node, graph: Graph) -> bool:
    """Whether no accumulator of a conv2d or dense node can leave int32, proven from its weights."""
    low, high = _bounds(node, graph)
    return bool(low.min(initial=0) >= -INT32_MAX - 1 and high.max(initial=0) <= INT32_MAX)


@dataclass(frozen=True)
class Epilogue:
    """How the sums of a node's channels become outputs. narrow: see the module."""

    site: Site
    narrow: bool

    @staticmethod
    def of(site: Site) -> Epilogue:
        _, right = _factors(site)
        return Epilogue(site, bool((right >= _LEAST).all() and (right <= _MOST).all()))

    def constants(self, order: Array) -> Mapping[str, Constant]:
        """Tables by lane. order: the channel of each lane, −1 where there is none."""
        multiplier, right = _factors(self.site)
        tables = {"start": self._start().astype(np.int32), "multiplier": multiplier}
        if self.narrow:
            zero_point = clamp_of(self.site).zero_point
            rest = right - upper_shift(self.site.isa.lanes)
            rounding = (np.int64(1) << (rest - 1)) + (zero_point << rest)
            tables |= {"rounding": rounding.astype(np.int32), "shift": rest.astype(np.int32)}
        else:
            tables |= {"rounding": np.int64(1) << (right - 1), "shift": right}
        return {
            name: Constant(np.where(order < 0, table.dtype.type(1), table[order]), _ALIGNMENT)
            for name, table in tables.items()
        }

    def finish(self, acc: Expr, frame: Frame, lane: Expr, lanes: int) -> Expr:
        """What is stored for `lanes` sums. lane: the first one's place in the tables."""
        clamp = clamp_of(self.site, self.site.node.attrs.q_clamp)
        value = self._rescaled(acc, frame, lane, lanes)
        low, high = constant(clamp.low, value), constant(clamp.high, value)
        return cast(tirx.max(tirx.min(value, high), low), clamp.dtype)

    def finish_interleaved(
        self, sums: Sequence[Expr], frame: Frame, lane: Expr, lanes: int
    ) -> Expr:
        """The same for four vectors in `interleaved_order`: their 4·lanes channels, in order."""
        clamp = clamp_of(self.site, self.site.node.attrs.q_clamp)
        values = [self._rescaled(acc, frame, lane + g * lanes, lanes) for g, acc in enumerate(sums)]
        packed = saturating_pack(values, lanes, clamp.dtype)
        least, most = (0, 255) if clamp.dtype == "uint8" else (-128, 127)
        if clamp.high < most:
            packed = tirx.min(packed, constant(clamp.high, packed, clamp.dtype))
        if clamp.low > least:
            packed = tirx.max(packed, constant(clamp.low, packed, clamp.dtype))
        return packed

    def _rescaled(self, acc: Expr, frame: Frame, lane: Expr, lanes: int) -> Expr:
        """int32, with the zero point, not clamped."""
        names = ("multiplier", "rounding", "shift")
        m, rounding, shift = (frame.constants[n].raw(lane, lanes) for n in names)
        if self.narrow:
            return (upper_part(acc, m, lanes) + rounding) >> shift
        product = cast(acc, "int64") * cast(m, "int64")
        value = cast((product + rounding) >> shift, "int32")
        return value + constant(clamp_of(self.site).zero_point, value)

    def _start(self) -> Array:
        """int64, to be taken mod 2^32."""
        node, graph = self.site.node, self.site.graph
        weights, bias = (graph.constant(v).astype(np.int64) for v in node.inputs[1:3])
        sums = weights.reshape(len(weights), -1).sum(axis=1)
        return bias - (node.x.zero_point + self.site.isa.storage_offset) * sums


def _bounds(node: Node, graph: Graph) -> tuple[Array, Array]:
    weights, bias = (graph.constant(v) for v in node.inputs[1:3])
    return accumulator_bounds(weights, bias, -128, 127, node.x.zero_point)


def _factors(site: Site) -> tuple[Array, Array]:
    """(int32 multiplier, int64 right shift). A channel whose every sum gives 0 has multiplier 0."""
    multiplier, shift = (site.graph.constant(v) for v in site.node.inputs[3:5])
    multiplier, right = right_shifts(multiplier, shift)
    least, most = (
        (b * multiplier + (np.int64(1) << (right - 1))) >> right
        for b in _bounds(site.node, site.graph)
    )
    multiplier = np.where((least == 0) & (most == 0), np.int32(0), multiplier)
    return multiplier, np.where(multiplier == 0, _LEAST, right)

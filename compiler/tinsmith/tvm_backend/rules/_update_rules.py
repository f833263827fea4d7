"""Steps of int8 weights, by the rules of `ops/_rounding.py`, and float32 that is not fused.

TVM lets LLVM contract a product and a sum into one operation with one rounding; numpy has two.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...ops._rounding import W_MAX
from ..import_tvm import T, tirx
from ._emit import Expr, Tensor, bind, clamp, const, vector

INFINITY, _MAGNITUDE = 0x7F800000, 0x7FFFFFFF  # bits of float32
_STEP_LIMIT = 65536.0  # beyond every range that a rule has


def rounded(value: Expr, lanes: int) -> Expr:
    """A float32 product that no sum after it takes in."""
    return T.call_llvm_pure_intrin(vector("float32", lanes), "llvm.arithmetic.fence", value)


def magnitude_bits(value: Expr, lanes: int) -> Expr:
    """The bits of |value|, int32: in the order of the magnitudes, what is not finite last."""
    bits = T.reinterpret(value, dtype=vector("int32", lanes))
    return bits & const(_MAGNITUDE, "int32", lanes)


def whole(value: Expr, lanes: int, limit: float = _STEP_LIMIT) -> Expr:
    """rint(value) within ±limit, a whole number, as int32; 0 for what is not a number."""
    value = bind(value)
    is_number = magnitude_bits(value, lanes) <= const(INFINITY, "int32", lanes)
    number = tirx.Select(is_number, value, const(0, "float32", lanes))
    bounds = (const(b, "float32", lanes) for b in (-limit, limit))
    return tirx.nearbyint(clamp(number, *bounds)).astype(vector("int32", lanes))


@dataclass(frozen=True)
class Residual:
    """The rule residual8 or residual4, or without `bits` nearest: weights and what rounding left.

    weights: int8, in natural order. rest: the residuals of those that move, int8, or uint8 with two
    to a byte, the first in the low bits.
    """

    weights: Tensor
    rest: Tensor | None
    bits: int

    @property
    def one(self) -> int:
        """Of a weight's last place, in that of its residual."""
        return 1 << self.bits

    def held(self, at: Expr, moving: Expr, lanes: int) -> tuple[Expr, Expr]:
        """(w, w · one + r), int32. at: among all weights; moving: among those that move."""
        w = bind(self.weights.load(at, lanes, "int32"))
        if self.rest is None:
            return w, w
        if self.bits == 8:
            r = self.rest.load(moving, lanes, "int32")
        else:
            byte = self.rest.load(moving >> 1, 1, "int32")
            r = (((byte >> ((moving & 1) * 4)) + 8) & 15) - 8
        return w, bind(w * const(self.one, "int32", lanes) + r)

    def real(self, held: Expr, lanes: int) -> Expr:
        """w + r/one, float32."""
        return held.astype(vector("float32", lanes)) * const(1 / self.one, "float32", lanes)

    def move(self, at: Expr, moving: Expr, old: tuple[Expr, Expr], step: Expr, lanes: int) -> Expr:
        """Takes the step; returns how much the weights move, int32. old: of `held`."""
        one = self.one
        w, held = old
        v = held - whole(step * const(one, "float32", lanes), lanes)
        if self.rest is None:
            new = bind(bounded(v, -W_MAX, W_MAX, lanes))
        else:
            v = bind(bounded(v, -128 * one, 128 * one - 1, lanes))
            nearest = (v + const(one // 2, "int32", lanes)) >> const(self.bits, "int32", lanes)
            new = bind(bounded(nearest, -W_MAX, W_MAX, lanes))
            left = bounded(v - new * const(one, "int32", lanes), -(one // 2), one // 2 - 1, lanes)
            self._keep(self.rest, moving, bind(left), lanes)
        self.weights.store(at, new, lanes, "int32")
        return new - w

    def _keep(self, rest: Tensor, moving: Expr, left: Expr, lanes: int) -> None:
        if self.bits == 8:
            rest.store(moving, left, lanes, "int32")
            return
        byte, shift = bind(moving >> 1), bind((moving & 1) * 4)
        other = rest.load(byte, 1, "int32") & (const(0xF0, "int32") >> shift)
        rest.store(byte, other | ((left & 15) << shift), 1, "int32")


@dataclass(frozen=True)
class Stochastic:
    """The rule stochastic: one number of the generator per weight, in storage order.

    state: uint32[1], read and written at every draw.
    """

    weights: Tensor
    state: Tensor

    def held(self, at: Expr, moving: Expr, lanes: int) -> tuple[Expr, Expr]:
        """(w, w), int32."""
        del moving
        w = bind(self.weights.load(at, lanes, "int32"))
        return w, w

    def real(self, held: Expr, lanes: int) -> Expr:
        return held.astype(vector("float32", lanes))

    def move(self, at: Expr, moving: Expr, old: tuple[Expr, Expr], step: Expr, lanes: int) -> Expr:
        """Takes the step of a single weight; returns how much it moves, int32."""
        del moving
        x = self.state.raw(0)
        for left, shift in ((True, 13), (False, 17), (True, 5)):
            by = const(shift, "uint32")
            x = bind(x ^ (x << by if left else x >> by))
        self.state.put(0, x)
        uniform = rounded((x >> const(8, "uint32")).astype("float32"), 1)
        drawn = rounded(uniform * const(2.0**-24, "float32"), 1)
        moved = whole(tirx.floor(rounded(step, 1) + drawn), 1)
        new = bind(bounded(old[0] - moved, -W_MAX, W_MAX, lanes))
        self.weights.store(at, new, lanes, "int32")
        return new - old[0]


AnyRule = Residual | Stochastic


def rule_of(name: str, weights: Tensor, state: Tensor | None) -> AnyRule:
    """The rule called `name` in a scheme. state: None for nearest."""
    if name == "stochastic":
        assert state is not None
        return Stochastic(weights, state)
    return Residual(weights, state, {"residual8": 8, "residual4": 4}.get(name, 0))


def lanes_of(name: str, lanes: int) -> int:
    """The weights that the rule moves at once, at most `lanes`."""
    return lanes if name in ("residual8", "nearest") else 1


def bounded(value: Expr, low: int, high: int, lanes: int, dtype: str = "int32") -> Expr:
    """A vector of `dtype` within [low, high]."""
    return clamp(value, const(low, dtype, lanes), const(high, dtype, lanes))

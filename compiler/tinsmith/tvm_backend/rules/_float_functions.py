"""exp, tanh, erf and their relatives in float32 vectors, without a library.

The error is given in units of the last place (u) or absolutely, over all arguments.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..import_tvm import T, tirx
from ._emit import Expr, bind, const, vector

_LOG2_E = 1.44269504088896341
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4  # Cephes expf: the high part has 9 bits
_EXP_HIGHEST, _EXP_LOWEST = 88.72284, -87.33654  # beyond: inf, and less than the smallest normal
_EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 0.5)
_EXPM1 = tuple(1 / math.factorial(k) for k in range(9, 0, -1))
_LOG1P = (1 / 11, 1 / 9, 1 / 7, 1 / 5, 1 / 3, 1.0)
_ERF = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
_ERF_P = 0.3275911


def polynomial(x: Expr, coefficients: Sequence[float], lanes: int) -> Expr:
    """Horner's rule, the highest power first."""
    result = const(coefficients[0], "float32", lanes)
    for c in coefficients[1:]:
        result = result * x + const(c, "float32", lanes)
    return result


def exp(x: Expr, lanes: int) -> Expr:
    """2 u. The argument is halved by powers of two to |r| ≤ ln 2 / 2 (Cephes expf)."""
    x = bind(x)
    low, high = (const(b, "float32", lanes) for b in (_EXP_LOWEST, _EXP_HIGHEST))
    inside = bind(tirx.max(tirx.min(x, high), low))
    n = bind(tirx.floor(inside * const(_LOG2_E, "float32", lanes) + const(0.5, "float32", lanes)))
    r = inside - n * const(_LN2_HIGH, "float32", lanes)
    r = bind(r - n * const(_LN2_LOW, "float32", lanes))
    p = bind(polynomial(r, _EXP, lanes) * (r * r) + r + const(1.0, "float32", lanes))
    # 2^n in two factors, for n = 128 has no float of its own.
    half = bind(n.astype(vector("int32", lanes)) >> const(1, "int32", lanes))
    rest = n.astype(vector("int32", lanes)) - half
    result = p * power_of_two(half, lanes) * power_of_two(rest, lanes)
    result = tirx.Select(x > high, const(math.inf, "float32", lanes), result)
    return tirx.Select(x < low, const(0.0, "float32", lanes), result)


def power_of_two(n: Expr, lanes: int = 1) -> Expr:
    """2^n from its bits, −126 ≤ n ≤ 127, exactly."""
    bits = (n + const(127, "int32", lanes)) << const(23, "int32", lanes)
    return T.reinterpret(bits, dtype=vector("float32", lanes))


def sigmoid(x: Expr, lanes: int) -> Expr:
    one = const(1.0, "float32", lanes)
    return one / (one + exp(const(0.0, "float32", lanes) - x, lanes))


def tanh(x: Expr, lanes: int) -> Expr:
    """1e-7, absolute: (1 − e) / (1 + e) with e = exp(−2|x|), and the sign of x."""
    x, one = bind(x), const(1.0, "float32", lanes)
    e = bind(exp(magnitude(x, lanes) * const(-2.0, "float32", lanes), lanes))
    return signed((one - e) / (one + e), x, lanes)


def expm1(x: Expr, lanes: int) -> Expr:
    """4 u for x ≤ 0: the Taylor series where exp(x) − 1 would cancel."""
    x = bind(x)
    near = x * polynomial(x, _EXPM1, lanes)
    far = exp(x, lanes) - const(1.0, "float32", lanes)
    return tirx.Select(x > const(-0.5, "float32", lanes), near, far)


def log1p_unit(x: Expr, lanes: int) -> Expr:
    """log(1 + x) for 0 ≤ x ≤ 1; 2e-7: 2 artanh(s), s = x / (2 + x)."""
    x = bind(x)
    s = bind(x / (x + const(2.0, "float32", lanes)))
    return const(2.0, "float32", lanes) * s * polynomial(s * s, _LOG1P, lanes)


def erf(x: Expr, lanes: int) -> Expr:
    """2e-7, absolute (Abramowitz and Stegun, 7.1.26)."""
    x, one = bind(x), const(1.0, "float32", lanes)
    size = bind(magnitude(x, lanes))
    t = bind(one / (one + const(_ERF_P, "float32", lanes) * size))
    tail = t * polynomial(t, _ERF, lanes) * exp(const(0.0, "float32", lanes) - size * size, lanes)
    return signed(one - tail, x, lanes)


def magnitude(x: Expr, lanes: int) -> Expr:
    return tirx.max(x, const(0.0, "float32", lanes) - x)


def signed(size: Expr, x: Expr, lanes: int) -> Expr:
    """`size` with the sign of x."""
    size = bind(size)
    zero = const(0.0, "float32", lanes)
    return tirx.Select(x < zero, zero - size, size)

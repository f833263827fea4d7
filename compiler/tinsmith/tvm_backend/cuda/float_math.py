"""Float32 expressions that rules share: CUDA's own functions, within 1e-4 of the exact ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from ..import_tvm import te, tirx


def real(value: float) -> Any:
    """A float32 constant."""
    return tirx.const(value, "float32")


def clamp_real(value: Any, bounds: tuple[float, float]) -> Any:
    """A fused activation; an infinite bound is none."""
    low, high = bounds
    if high < math.inf:
        value = te.min(value, real(high))
    return te.max(value, real(low)) if low > -math.inf else value


def _sigmoid(x: Any) -> Any:
    return real(1) / (real(1) + te.exp(real(0) - x))


def _elu(x: Any, alpha: float) -> Any:
    below = (te.exp(te.min(x, real(0))) - real(1)) * real(alpha)
    return te.if_then_else(x < real(0), below, x)


def _gate(x: Any, alpha: float, beta: float) -> Any:
    return clamp_real(x * real(alpha) + real(beta), (0.0, 1.0))


def _gelu(x: Any, approximate: str) -> Any:
    if approximate == "tanh":
        cubic = x + real(0.044715) * x * x * x
        curve = te.tanh(cubic * real(math.sqrt(2 / math.pi)))
    else:
        curve = te.erf(x * real(math.sqrt(0.5)))
    return real(0.5) * x * (real(1) + curve)


def _softplus(x: Any) -> Any:
    tail = te.exp(real(0) - te.abs(x))
    return te.max(x, real(0)) + te.log(real(1) + tail)


# By operator: (x, attributes) → y, as `ops.unary` says.
UNARY: Mapping[str, Callable[[Any, Any], Any]] = {
    "relu": lambda x, a: te.max(x, real(0)),
    "clip": lambda x, a: clamp_real(x, (a.low, a.high)),
    "leaky_relu": lambda x, a: te.if_then_else(x < real(0), x * real(a.alpha), x),
    "hard_swish": lambda x, a: x * _gate(x, 1 / 6, 0.5),
    "hard_sigmoid": lambda x, a: _gate(x, a.alpha, a.beta),
    "sigmoid": lambda x, a: _sigmoid(x),
    "silu": lambda x, a: x * _sigmoid(x),
    "tanh": lambda x, a: te.tanh(x),
    "elu": lambda x, a: _elu(x, a.alpha),
    "selu": lambda x, a: _elu(x, a.alpha) * real(a.gamma),
    "gelu": lambda x, a: _gelu(x, a.approximate),
    "softplus": lambda x, a: _softplus(x),
    "erf": lambda x, a: te.erf(x),
    "exp": lambda x, a: te.exp(x),
    "neg": lambda x, a: real(0) - x,
    "abs": lambda x, a: te.abs(x),
    "sqrt": lambda x, a: te.sqrt(x),
    "reciprocal": lambda x, a: real(1) / x,
}

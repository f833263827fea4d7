"""Elementwise functions of float32; int8 ones are a lookup."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from ...ir.dtypes import DType
from ...kernels.portable._elementwise import in_place
from ..import_tvm import PrimFunc, tirx
from ..rule import Rule, Site
from ._emit import Expr, Frame, bind, clamp_real, const, define, spans
from ._float_functions import erf, exp, expm1, log1p_unit, magnitude, sigmoid, tanh

_Function = Callable[[Expr, Any, int], Expr]  # (x, attributes, lanes)


def _f(value: float, lanes: int) -> Expr:
    return const(value, "float32", lanes)


def _below_zero(x: Expr, other: Expr, lanes: int) -> Expr:
    return tirx.Select(x < _f(0, lanes), other, x)


def _elu(x: Expr, alpha: float, lanes: int) -> Expr:
    return _below_zero(x, expm1(tirx.min(x, _f(0, lanes)), lanes) * _f(alpha, lanes), lanes)


def _gate(x: Expr, alpha: float, beta: float, lanes: int) -> Expr:
    return clamp_real(x * _f(alpha, lanes) + _f(beta, lanes), (0.0, 1.0), lanes)


def _gelu(x: Expr, approximate: str, lanes: int) -> Expr:
    if approximate == "tanh":
        cubic = x + _f(0.044715, lanes) * x * x * x
        curve = tanh(cubic * _f(math.sqrt(2 / math.pi), lanes), lanes)
    else:
        curve = erf(x * _f(math.sqrt(0.5), lanes), lanes)
    return _f(0.5, lanes) * x * (_f(1, lanes) + curve)


def _softplus(x: Expr, lanes: int) -> Expr:
    tail = exp(_f(0, lanes) - magnitude(x, lanes), lanes)
    return tirx.max(x, _f(0, lanes)) + log1p_unit(tail, lanes)


_FUNCTIONS: Mapping[str, _Function] = {
    "relu": lambda x, a, n: tirx.max(x, _f(0, n)),
    "clip": lambda x, a, n: clamp_real(x, (a.low, a.high), n),
    "leaky_relu": lambda x, a, n: _below_zero(x, x * _f(a.alpha, n), n),
    "hard_swish": lambda x, a, n: x * _gate(x, 1 / 6, 0.5, n),
    "hard_sigmoid": lambda x, a, n: _gate(x, a.alpha, a.beta, n),
    "sigmoid": lambda x, a, n: sigmoid(x, n),
    "silu": lambda x, a, n: x * sigmoid(x, n),
    "tanh": lambda x, a, n: tanh(x, n),
    "elu": lambda x, a, n: _elu(x, a.alpha, n),
    "selu": lambda x, a, n: _elu(x, a.alpha, n) * _f(a.gamma, n),
    "gelu": lambda x, a, n: _gelu(x, a.approximate, n),
    "softplus": lambda x, a, n: _softplus(x, n),
    "erf": lambda x, a, n: erf(x, n),
    "exp": lambda x, a, n: exp(x, n),
    "neg": lambda x, a, n: _f(0, n) - x,
    "abs": lambda x, a, n: magnitude(x, n),
    "sqrt": lambda x, a, n: tirx.sqrt(x),
    "reciprocal": lambda x, a, n: _f(1, n) / x,
}


def build(site: Site) -> PrimFunc:
    node = site.node
    function = _FUNCTIONS[node.op.name]

    def body(frame: Frame) -> None:
        def part(at: Expr, lanes: int) -> None:
            frame.y.put(at, function(bind(frame.x.raw(at, lanes)), node.attrs, lanes), lanes)

        spans(node.y.elements, site.isa.lanes, part)

    return define(site, body, overlaps=True)


RULES = tuple(Rule(op, build, DType.FLOAT32, lead_bytes=in_place) for op in _FUNCTIONS)

"""Elementwise functions of one value: one row each. int8: a 256-entry `lookup`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..ir.dtypes import Array
from ..ir.graph import Node, Value
from ._clamp import INF
from ._gradient_rules import rectifier
from ._onnx import ExportContext, ImportContext, OnnxNode
from ._unary import AlphaAttrs, Unary, record

_SELU_ALPHA, _SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875
_ERF = np.vectorize(math.erf, otypes=[np.float64])


@dataclass(frozen=True)
class ClipAttrs:
    low: float = -INF
    high: float = INF


@dataclass(frozen=True)
class HardSigmoidAttrs:
    """clip(alpha · x + beta, 0, 1)."""

    alpha: float = 0.2
    beta: float = 0.5


@dataclass(frozen=True)
class SeluAttrs:
    alpha: float = _SELU_ALPHA
    gamma: float = _SELU_GAMMA


@dataclass(frozen=True)
class GeluAttrs:
    """approximate: "none" for the error function, "tanh" for its approximation."""

    approximate: str = "none"


def _sigmoid(x: Array) -> Array:
    return 0.5 * (1 + np.tanh(0.5 * x))


def _gelu(x: Array, attrs: GeluAttrs) -> Array:
    if attrs.approximate == "tanh":
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + _ERF(x / math.sqrt(2)))


def _elu(x: Array, attrs: AlphaAttrs) -> Array:
    return np.where(x < 0, attrs.alpha * np.expm1(np.minimum(x, 0)), x)


def _selu(x: Array, attrs: SeluAttrs) -> Array:
    return attrs.gamma * np.where(x < 0, attrs.alpha * np.expm1(np.minimum(x, 0)), x)


def _import_clip(node: OnnxNode, out: ImportContext) -> Sequence[Value]:
    """Bounds are attributes before opset 11, constant inputs since."""
    bounds: list[float] = []
    for index, name, default in ((1, "min", -INF), (2, "max", INF)):
        if node.opset < 11:
            bounds.append(float(node.attr(name, default)))
            continue
        given = node.array(index)
        if given is not None and given.size != 1:
            node.fail(f"its {name} has {given.size} elements, expected one number")
        bounds.append(default if given is None else float(np.ravel(given)[0]))
    if bounds[0] > bounds[1]:
        node.fail(f"its minimum {bounds[0]} is above its maximum {bounds[1]}")
    return out.emit(out.op("clip"), [node.x(0)], ClipAttrs(*bounds))


def _import_prelu(node: OnnxNode, out: ImportContext) -> Sequence[Value]:
    slope = node.array(1)
    if slope is None or np.unique(slope).size != 1:
        node.fail("only one constant slope is supported, not one per channel")
    return out.emit(out.op("leaky_relu"), [node.x(0)], AlphaAttrs(float(np.ravel(slope)[0])))


def _import_gelu(node: OnnxNode, out: ImportContext) -> Sequence[Value]:
    approximate = node.attr("approximate", "none")
    return out.emit(out.op("gelu"), [node.x(0)], GeluAttrs(approximate))


def _export_clip(node: Node, out: ExportContext) -> None:
    bounds = [
        "" if math.isinf(bound) else out.constant(hint, np.array(bound, np.float32))
        for hint, bound in (("min", node.attrs.low), ("max", node.attrs.high))
    ]
    out.node("Clip", [out.name(node.inputs[0]), *bounds], [out.name(node.outputs[0])])


def _export_gelu(node: Node, out: ExportContext) -> None:
    """By its parts: Gelu itself is new in opset 20."""
    x, y = out.name(node.inputs[0]), out.name(node.outputs[0])
    if node.attrs.approximate != "none":
        out.node("Gelu", [x], [y], approximate=node.attrs.approximate)
        return
    names = [out.temporary(f"gelu{i}") for i in range(4)]
    root = out.constant("root", np.array(1 / math.sqrt(2), np.float32))
    one = out.constant("one", np.array(1, np.float32))
    half = out.constant("half", np.array(0.5, np.float32))
    out.node("Mul", [x, root], [names[0]])
    out.node("Erf", [names[0]], [names[1]])
    out.node("Add", [names[1], one], [names[2]])
    out.node("Mul", [x, half], [names[3]])
    out.node("Mul", [names[2], names[3]], [y])


def _export_silu(node: Node, out: ExportContext) -> None:
    """x · sigmoid(x): Swish itself is new in opset 24."""
    x, gate = out.name(node.inputs[0]), out.temporary("gate")
    out.node("Sigmoid", [x], [gate])
    out.node("Mul", [x, gate], [out.name(node.outputs[0])])


def _import_swish(node: OnnxNode, out: ImportContext) -> Sequence[Value]:
    if float(node.attr("alpha", 1.0)) != 1:
        node.fail("only alpha = 1 is supported")
    return out.emit(out.op("silu"), [node.x(0)])


def _plain(function: Any) -> Any:
    """A function of x as a function of (x, attributes)."""
    return lambda x, attrs: function(x)


def _hard_sigmoid(x: Array, attrs: HardSigmoidAttrs) -> Array:
    return np.clip(attrs.alpha * x + attrs.beta, 0, 1)


_ALPHA = AlphaAttrs
_UNIT = (1 / 256, -128)

_TABLE = (
    Unary("relu", "Relu", _plain(lambda x: np.maximum(x, 0)), gradient=rectifier),
    Unary(
        "clip",
        "Clip",
        lambda x, a: np.clip(x, a.low, a.high),
        ClipAttrs,
        imports=(("Clip", _import_clip),),
        export=_export_clip,
        case_attrs=(ClipAttrs(0.0, 3.0), ClipAttrs(-1.5, 1.5), ClipAttrs(low=-0.5)),
        gradient=rectifier,
    ),
    Unary(
        "leaky_relu",
        "LeakyRelu",
        lambda x, a: np.where(x < 0, a.alpha * x, x),
        _ALPHA,
        (("alpha", 0.01),),
        imports=(("PRelu", _import_prelu),),
        case_attrs=(AlphaAttrs(0.01), AlphaAttrs(0.3)),
    ),
    Unary("hard_swish", "HardSwish", _plain(lambda x: x * np.clip(x / 6 + 0.5, 0, 1))),
    Unary(
        "hard_sigmoid",
        "HardSigmoid",
        _hard_sigmoid,
        HardSigmoidAttrs,
        (("alpha", 0.2), ("beta", 0.5)),
        output=_UNIT,
        case_attrs=(HardSigmoidAttrs(), HardSigmoidAttrs(1 / 6, 0.5)),
    ),
    Unary("sigmoid", "Sigmoid", _plain(_sigmoid), output=_UNIT, data=(-7.0, 7.0)),
    Unary("tanh", "Tanh", _plain(np.tanh), output=(1 / 128, 0)),
    Unary("elu", "Elu", _elu, _ALPHA, (("alpha", 1.0),)),
    Unary("selu", "Selu", _selu, SeluAttrs, (("alpha", _SELU_ALPHA), ("gamma", _SELU_GAMMA))),
    Unary(
        "gelu",
        "Gelu",
        _gelu,
        GeluAttrs,
        imports=(("Gelu", _import_gelu),),
        export=_export_gelu,
    ),
    Unary(
        "silu",
        "Swish",
        _plain(lambda x: x * _sigmoid(x)),
        imports=(("Swish", _import_swish),),
        export=_export_silu,
    ),
    Unary("softplus", "Softplus", _plain(lambda x: np.logaddexp(0, x))),
    Unary("erf", "Erf", _plain(_ERF), output=(1 / 128, 0)),
    Unary("exp", "Exp", _plain(np.exp)),
    Unary("neg", "Neg", _plain(np.negative)),
    Unary("abs", "Abs", _plain(np.abs)),
    Unary("sqrt", "Sqrt", _plain(np.sqrt), data=(0.0, 4.0)),
    Unary("reciprocal", "Reciprocal", _plain(np.reciprocal), data=(0.25, 4.0)),
)

OPS = tuple(record(row) for row in _TABLE)

"""quantize_gradient: the largest magnitude, then int8 with its power of two; and scale_gradient."""

from __future__ import annotations

from collections.abc import Sequence

from ....ir.graph import Graph, Node
from ...import_tvm import PrimFunc, tirx
from ..threads import (
    Expr,
    Operands,
    Phase,
    atomic,
    bits_of,
    nearest,
    phases,
    power_of_two,
    real,
    store,
    times,
)
from .gradients import mask_bit, rules

_INFINITY = 0x7F800000  # bits; of what is not a number they are greater
_SMALLEST = -126


def _scaled(node: Node, b: Operands, i: Expr) -> Expr:
    """dy · factor of its channel where the mask is set, else 0."""
    dy, factor, *masks = b.inputs
    t = times(dy[i], factor[i % node.x.shape[-1]])
    return tirx.if_then_else(mask_bit(masks[0], i), t, real(0)) if masks else t


def _magnitude(t: Expr) -> Expr:
    """Bits that order float32 by magnitude."""
    return bits_of(t) & 0x7FFFFFFF


def _exponent(bits: Expr) -> Expr:
    """The shared exponent of numbers of which the largest magnitude has these bits."""
    fitting = tirx.max(((bits + 0x1FFFF) >> 23) - 133, _SMALLEST)
    return tirx.if_then_else(bits >= _INFINITY, _SMALLEST, fitting)


def _quantize(node: Node, graph: Graph) -> PrimFunc:
    """The exponent's place holds the largest magnitude until it is known."""
    count = node.x.elements

    def write(b: Operands) -> Sequence[Phase]:
        g, exponent = b.outputs

        def start(i: Expr) -> None:
            store(exponent, i, tirx.const(0, "int32"))

        def find(i: Expr) -> None:
            atomic("atomicMax", exponent, 0, _magnitude(_scaled(node, b, i)))

        def round_(i: Expr) -> None:
            bits = exponent[0]
            whole = nearest(times(_scaled(node, b, i), power_of_two(0 - _exponent(bits))))
            rounded = tirx.if_then_else(bits < _INFINITY, whole, real(0))
            store(g, i, rounded.astype("int32").astype("int8"))

        def finish(i: Expr) -> None:
            store(exponent, i, _exponent(exponent[i]))

        return [(1, start), (count, find), (count, round_), (1, finish)]

    return phases(node, graph, write)


def _scale(node: Node, graph: Graph) -> PrimFunc:
    def write(b: Operands) -> Sequence[Phase]:
        def one(i: Expr) -> None:
            t = _scaled(node, b, i)
            finite = _magnitude(t) < _INFINITY
            store(b.outputs[0], i, tirx.if_then_else(finite, t, real(0)))

        return [(node.x.elements, one)]

    return phases(node, graph, write)


RULES = (*rules("quantize_gradient", _quantize), *rules("scale_gradient", _scale))

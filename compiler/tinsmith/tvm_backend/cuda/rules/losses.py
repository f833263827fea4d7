"""Losses. Their sums run in the order of the classes, so one thread takes them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ....ir.graph import Graph, Node
from ...import_tvm import PrimFunc, T, tirx
from ..threads import (
    Cell,
    Expr,
    Operands,
    Phase,
    bits_of,
    clamp,
    from_bits,
    minus,
    over,
    phases,
    plus,
    real,
    store,
    times,
)
from .gradients import rules

_MANTISSA, _ONE = 0x7FFFFF, 127 << 23


def _float(value: float) -> Expr:
    """A constant rounded to float32."""
    return real(float(np.float32(value)))


def _natural_log(x: Expr) -> Expr:
    """As `ops.training_loss.natural_log`, operation by operation."""
    bits = Cell("int32", bits_of(x))
    k = Cell("int32", (bits.value >> 23) - 127)
    f = Cell("float32", from_bits((bits.value & _MANTISSA) | _ONE))
    with T.If(f.value > _float(math.sqrt(2))), T.Then():
        f.set(times(f.value, real(0.5)))
        k.set(k.value + 1)
    s = Cell("float32", over(minus(f.value, real(1)), plus(f.value, real(1))))
    z = Cell("float32", times(s.value, s.value))
    p = _float(1 / 9)
    for term in (1 / 7, 1 / 5, 1 / 3):
        p = plus(times(p, z.value), _float(term))
    double = plus(s.value, s.value)
    tail = plus(double, times(double, times(z.value, p)))
    return plus(times(k.value.astype("float32"), _float(math.log(2))), tail)


def _cross_entropy(node: Node, graph: Graph) -> PrimFunc:
    count, scale = node.x.elements, _float(node.attrs.scale)

    def write(b: Operands) -> Sequence[Phase]:
        logits, label, table = b.inputs
        loss, gradient = b.outputs

        def whole(i: Expr) -> None:
            top = Cell("int32", -128)
            with T.serial(0, count) as k:
                top.set(tirx.max(top.value, logits[k].astype("int32")))

            # What a device's memory holds before the first step may be no class.
            own = Cell("int32", clamp(label[0], 0, count - 1))

            def below(k: Expr) -> Expr:
                return top.value - logits[k].astype("int32")

            total = Cell("float32", table[below(0)])
            with T.serial(1, count) as k:
                total.set(plus(total.value, table[below(k)]))
            with T.serial(0, count) as k:
                share = Cell("float32", over(table[below(k)], total.value))
                with T.If(own.value == k), T.Then():
                    share.set(minus(share.value, real(1)))
                store(gradient, k, times(share.value, scale))
            short = times(below(own.value).astype("float32"), scale)
            store(loss, i, plus(_natural_log(total.value), short))

        return [(1, whole)]

    return phases(node, graph, write)


def _mse(node: Node, graph: Graph) -> PrimFunc:
    count = node.x.elements
    square = node.attrs.scale**2 / count

    def write(b: Operands) -> Sequence[Phase]:
        y, target = b.inputs
        loss, gradient = b.outputs

        def distance(i: Expr) -> Expr:
            return y[i].astype("int32") - target[i].astype("int32")

        def whole(i: Expr) -> None:
            total = Cell("int32", 0)
            with T.serial(0, count) as k:
                total.set(total.value + distance(k) * distance(k))
            store(loss, i, times(total.value.astype("float32"), _float(square)))

        def one(i: Expr) -> None:
            store(gradient, i, times(distance(i).astype("float32"), _float(2 * square)))

        return [(1, whole), (count, one)]

    return phases(node, graph, write)


RULES = (*rules("softmax_cross_entropy", _cross_entropy), *rules("mse_loss", _mse))

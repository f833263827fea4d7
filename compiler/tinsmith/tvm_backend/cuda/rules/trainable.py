"""Layers that learn, forward and back to their input: a thread for each sum, exact in int32.

Filters stay in natural order, for they may be state; a table says where a channel's weights are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ....ir.dtypes import DType
from ....ir.graph import Graph, Node
from ....kernels import Constant
from ....kernels.geometry import conv_geometry
from ....quant.arithmetic import INT32_MAX
from ...import_tvm import PrimFunc, T, tirx
from ..requantize import Requantize, requantize
from ..rule import constant_operands, unravel
from ..threads import Cell, Expr, Operands, Phase, phases, power_of_two, store, times
from ..window import read_or, window_at
from .gradients import rules
from .pool_gradient import window_over

_MULTIPLIER = 4  # position of the multipliers among the inputs of conv2d_trainable


def _split(node: Node, first: int) -> list[tuple[int, list[int]]]:
    """The filters of a layer that have elements: (position among the inputs, input channels).
    first: position of `frozen`."""
    kept, moving = (node.inputs[i].type.shape[3] for i in (first, first + 1))
    trained = list(node.attrs.trained_channels)
    frozen = [c for c in range(kept + moving) if c not in set(trained)]
    return [(first + i, c) for i, c in enumerate((frozen, trained)) if c]


def _places(node: Node, first: int) -> Mapping[str, Constant]:
    """Where filters are divided: `channels{i}`, the input channels of each part."""
    parts = _split(node, first)
    if len(parts) == 1:
        return {}
    return {f"channels{i}": Constant(np.array(c, np.int32), 16) for i, c in parts}


def _scale(node: Node, graph: Graph) -> Requantize:
    """The bias may be state: it is added to the sums, not folded into the constants."""
    return requantize(node, graph, first=_MULTIPLIER, bias=np.zeros(1, np.int64))


def _forward_constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    folded = ("c4", "c5")  # multipliers and shifts, as `_scale` has them
    own = {n: c for n, c in constant_operands(node, graph).items() if n not in folded}
    return {**own, **_scale(node, graph).constants, **_places(node, 1)}


def _forward(node: Node, graph: Graph) -> PrimFunc:
    g, scale, groups = conv_geometry(node), _scale(node, graph), node.attrs.groups
    zero_point = tirx.const(node.x.zero_point, "int8")
    per_group, per_out = g.in_c // groups, g.out_c // groups

    def write(b: Operands) -> Sequence[Phase]:
        def one(i: Expr) -> None:
            pixel, o = i // g.out_c, i % g.out_c
            base = o // per_out * per_group
            total = Cell("int32", b.inputs[3][o])
            with T.serial(0, g.kernel_h) as kh, T.serial(0, g.kernel_w) as kw:
                place, inside = window_at(g, pixel, kh, kw)
                for position, channels in _split(node, 1):
                    at = b.tables.get(f"channels{position}")
                    with T.serial(0, len(channels)) as k:
                        channel = base + (k if at is None else at[k])
                        q = read_or(b.inputs[0][place * g.in_c + channel], inside, zero_point)
                        row = (o * g.kernel_h + kh) * g.kernel_w + kw
                        w = b.inputs[position][row * len(channels) + k]
                        total.set(total.value + q.astype("int32") * w.astype("int32"))
            epilogue = (b.tables[name][o] for name in scale.constants)
            store(b.outputs[0], i, scale(total.value, *epilogue))

        return [(node.y.elements, one)]

    return phases(node, graph, write, {**scale.constants, **_places(node, 1)})


def _lookup(node: Node) -> Mapping[str, Constant]:
    """Where filters are divided: of each channel its place among those of its part, as ~place among
    the frozen ones."""
    parts = _split(node, 2)
    if len(parts) == 1:
        return {}
    (_, frozen), (_, trained) = parts
    place = np.zeros(len(frozen) + len(trained), np.int32)
    place[frozen] = ~np.arange(len(frozen))
    place[trained] = np.arange(len(trained))
    return {"place": Constant(place, 16)}


def _backward_constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    return {**constant_operands(node, graph), **_lookup(node)}


def _backward(node: Node, graph: Graph) -> PrimFunc:
    """The windows that hold an element, tap by tap."""
    attrs, (_, out_h, out_w, out_c) = node.attrs, node.x.shape
    _, kernel_h, kernel_w, _ = node.inputs[2].type.shape
    per_group, per_out = attrs.shape[3] // attrs.groups, out_c // attrs.groups
    (sh, sw), (dh, dw), (top, left) = attrs.strides, attrs.dilations, attrs.pads[:2]

    def write(b: Operands) -> Sequence[Phase]:
        weight = _reader(node, b)

        def one(i: Expr) -> None:
            n, h, w, c = unravel(i, attrs.shape)
            total = Cell("int32", 0)
            with T.serial(0, kernel_h) as kh, T.serial(0, kernel_w) as kw:
                row, above = window_over(h, kh, sh, top, dh, out_h)
                column, beside = window_over(w, kw, sw, left, dw, out_w)
                with (
                    T.If(tirx.all(above, beside)),
                    T.Then(),
                    T.serial(0, per_out) as k,
                ):
                    o = c // per_group * per_out + k
                    g = b.inputs[0][((n * out_h + row) * out_w + column) * out_c + o]
                    tap = (o * kernel_h + kh) * kernel_w + kw
                    moved = weight(tap, c % per_group).astype("int32")
                    total.set(total.value + g.astype("int32") * moved)
            power = power_of_two(b.inputs[1][0])
            store(b.outputs[0], i, times(total.value.astype("float32"), power))

        return [(node.y.elements, one)]

    return phases(node, graph, write, _lookup(node))


def _reader(node: Node, b: Operands) -> Callable[[Expr, Expr], Any]:
    """(tap of an output channel, input channel of its group) → the weight."""
    parts = _split(node, 2)
    if len(parts) == 1:
        ((position, channels),) = parts
        return lambda tap, c: b.inputs[position][tap * len(channels) + c]
    kept, moving = (len(channels) for _, channels in parts)

    def weight(tap: Expr, c: Expr) -> Expr:
        place = b.tables["place"][c]
        frozen = b.inputs[2][tap * kept - 1 - place]
        return tirx.if_then_else(place < 0, frozen, b.inputs[3][tap * moving + place])

    return weight


def _sums_fit(node: Node, graph: Graph) -> bool:
    """int8 gradients, whose sums fit int32."""
    del graph
    out, kernel_h, kernel_w, _ = node.inputs[2].type.shape
    terms = out // node.attrs.groups * kernel_h * kernel_w
    return node.x.dtype is DType.INT8 and terms * 127 * 128 <= INT32_MAX


RULES = (
    *rules("conv2d_trainable", _forward, _forward_constants),
    *rules("conv2d_input_gradient", _backward, _backward_constants, _sums_fit),
)

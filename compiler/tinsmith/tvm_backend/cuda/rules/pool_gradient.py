"""Gradients of pools: a thread for each input, over the windows that hold it in row-major order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ....ir.graph import Graph, Node
from ...import_tvm import PrimFunc, T, tirx
from ..rule import unravel
from ..threads import Cell, Expr, Operands, Phase, phases, plus, store, times
from .gradients import rules

Place = tuple[Expr, Expr, Expr, Expr]  # sample, row, column, channel
# sum, gradient of a window, the node's second input, place of the first, the window's row, column
Add = Callable[[Cell, Expr, Any, Place, Expr, Expr], None]


def window_over(at: Expr, tap: Expr, stride: int, pad: int, dilation: int, count: int) -> Any:
    """Along one axis, the window whose tap lies on `at`: (its number, whether there is one)."""
    reach = at + pad - tap * dilation
    number = tirx.truncdiv(reach, stride)
    return number, tirx.all(reach >= 0, tirx.truncmod(reach, stride) == 0, number < count)


def _summed(node: Node, graph: Graph, add: Add) -> PrimFunc:
    """For each input what `add` takes of the windows that hold it: last taps first, for then the
    windows come in order."""
    attrs, (_, out_h, out_w, channels) = node.attrs, node.x.shape
    (kh, kw), (sh, sw), (dh, dw) = attrs.kernel, attrs.strides, attrs.dilations
    top, left = attrs.pads[:2]

    def write(b: Operands) -> Sequence[Phase]:
        dy, other = b.inputs

        def one(i: Expr) -> None:
            total = Cell("float32", 0.0)
            n, h, w, c = unravel(i, attrs.shape)
            with T.serial(0, kh) as down, T.serial(0, kw) as across:
                row, above = window_over(h, kh - 1 - down, sh, top, dh, out_h)
                column, beside = window_over(w, kw - 1 - across, sw, left, dw, out_w)
                with T.If(tirx.all(above, beside)), T.Then():
                    part = dy[((n * out_h + row) * out_w + column) * channels + c]
                    add(total, part, other, (n, h, w, c), row, column)
            store(b.outputs[0], i, total.value)

        return [(node.y.elements, one)]

    return phases(node, graph, write)


def _average(node: Node, graph: Graph) -> PrimFunc:
    def add(total: Cell, dy: Expr, weight: Any, place: Place, row: Expr, column: Expr) -> None:
        del place
        share = weight[row * node.x.shape[2] + column]
        total.set(plus(total.value, times(dy, share)))

    return _summed(node, graph, add)


def _is_first_largest(node: Node, x: Any, place: Place, row: Expr, column: Expr) -> Cell:
    """1 where no earlier element of the window is as large as the one at `place`, and no later one
    is larger; else 0."""
    attrs, (_, in_h, in_w, channels) = node.attrs, node.attrs.shape
    n, h, w, c = place
    best = Cell("int32", 1)
    own = x[((n * in_h + h) * in_w + w) * channels + c]
    with T.serial(0, attrs.kernel[0]) as down, T.serial(0, attrs.kernel[1]) as across:
        y = row * attrs.strides[0] - attrs.pads[0] + down * attrs.dilations[0]
        z = column * attrs.strides[1] - attrs.pads[1] + across * attrs.dilations[1]
        inside = tirx.all(y >= 0, y < in_h, z >= 0, z < in_w)
        at = ((n * in_h + y) * in_w + z) * channels + c
        other = tirx.if_then_else(inside, x[at], tirx.const(-128, "int8"))
        earlier = tirx.any(y < h, tirx.all(y == h, z < w))
        wins = tirx.any(other > own, tirx.all(earlier, other == own))
        with T.If(tirx.all(inside, wins)), T.Then():
            best.set(0)
    return best


def _largest(node: Node, graph: Graph) -> PrimFunc:
    def add(total: Cell, dy: Expr, x: Any, place: Place, row: Expr, column: Expr) -> None:
        best = _is_first_largest(node, x, place, row, column)
        with T.If(best.value == 1), T.Then():
            total.set(plus(total.value, dy))

    return _summed(node, graph, add)


RULES = (
    *rules("average_pool_gradient", _average),
    *rules("max_pool_gradient", _largest),
)

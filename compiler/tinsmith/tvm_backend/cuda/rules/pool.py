"""Int8 max and average pooling in NHWC, a window for each output."""

from __future__ import annotations

from typing import Any

import numpy as np

from ....ir.graph import Graph, Node
from ....kernels import Constant
from ....kernels.geometry import Geometry
from ....ops.average_pool import window_divisors
from ...import_tvm import PrimFunc, te, tirx
from ..requantize import Requantize, clamp_s8, requantize
from ..rule import CudaRule
from ..schedules import reduction
from ..window import read_or, window_at


def geometry(node: Node) -> Geometry:
    attrs = node.attrs
    _, in_h, in_w, channels = node.x.shape
    _, out_h, out_w, _ = node.y.shape
    (kernel_h, kernel_w), (stride_h, stride_w) = attrs.kernel, attrs.strides
    top, left, *_ = attrs.pads
    dilation_h, dilation_w = attrs.dilations
    sizes = (in_h, in_w, channels, out_h, out_w, channels)
    return Geometry(
        *sizes, kernel_h, kernel_w, stride_h, stride_w, top, left, dilation_h, dilation_w
    )


def window(
    node: Node, x: Any, place: tuple[Any, Any], taps: tuple[Any, Any], otherwise: Any
) -> Any:
    """The element of `x` at a tap of the window of an output (pixel, channel)."""
    g, (pixel, channel) = geometry(node), place
    source, inside = window_at(g, pixel, *taps)
    return read_or(x[source * g.in_c + channel], inside, otherwise)


def shape_of(node: Node) -> tuple[int, int]:
    """Pixels of the whole batch, channels."""
    channels = node.y.shape[-1]
    return node.y.elements // channels, channels


def reduce_axes(node: Node) -> tuple[Any, Any]:
    kh, kw = node.attrs.kernel
    return te.reduce_axis((0, kh), "kh"), te.reduce_axis((0, kw), "kw")


def lanes_of(node: Node) -> int:
    return 4 if node.y.shape[-1] % 4 == 0 else 1


def _max_pool(node: Node, graph: Graph) -> PrimFunc:
    del graph
    shape, taps = shape_of(node), reduce_axes(node)
    x = te.placeholder((node.x.elements,), "int8", "x")
    lowest = tirx.const(-128, "int8")

    def largest(p: Any, o: Any) -> Any:
        value = window(node, x, (p, o), taps, lowest).astype("int32")
        return te.max(value, axis=list(taps))

    c = te.compute(shape, largest, name="C")
    y = te.compute(shape, lambda p, o: clamp_s8(c[p, o], *node.attrs.q_clamp), name="y")
    return reduction([x], y, lanes_of(node))


def _scale(node: Node, graph: Graph) -> Requantize:
    """Per pixel of the output: a window at the border sums fewer elements."""
    divisors = window_divisors(node.x, node.attrs)
    kind = np.searchsorted(np.unique(divisors), divisors).ravel()
    scale = requantize(node, graph, bias=np.zeros(1, np.int64))
    return Requantize(
        scale.multiplier[kind], scale.bias[kind], scale.shift[kind],
        scale.zero_point, scale.low, scale.high,
    )  # fmt: skip


def _average_pool(node: Node, graph: Graph) -> PrimFunc:
    shape, taps, scale = shape_of(node), reduce_axes(node), _scale(node, graph)
    pixels = len(scale.multiplier)
    x = te.placeholder((node.x.elements,), "int8", "x")
    constants = scale.placeholders()
    zero_point = node.x.zero_point

    def total(p: Any, o: Any) -> Any:
        value = window(node, x, (p, o), taps, tirx.const(zero_point, "int8"))
        return te.sum(value.astype("int32") - zero_point, axis=list(taps))

    c = te.compute(shape, total, name="C")
    y = te.compute(
        shape, lambda p, o: scale(c[p, o], *(v[p % pixels] for v in constants)), name="y"
    )
    return reduction([x, *constants], y, lanes_of(node))


def _average_constants(node: Node, graph: Graph) -> dict[str, Constant]:
    return _scale(node, graph).constants


RULES = (
    CudaRule("max_pool", build=_max_pool),
    CudaRule("average_pool", build=_average_pool, constants=_average_constants),
)

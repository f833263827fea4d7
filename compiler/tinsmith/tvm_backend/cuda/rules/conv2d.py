"""Int8 convolutions: an implicit matrix product, or by windows where there are groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ....ir.graph import Graph, Node
from ....kernels import Constant
from ....kernels.geometry import conv_geometry
from ...import_tvm import PrimFunc, te, tirx
from ..gemm import Gemm, gemm, packed_weights
from ..requantize import Requantize, requantize
from ..rule import CudaRule
from ..schedules import reduction
from ..window import read_or, window_at

_MAX_DEPTH = 2**31 // (128 * 128)  # beyond it a sum of products may leave int32


def im2col(node: Node) -> Gemm:
    """The convolution as a product: rows are output pixels, k runs over (kh, kw, channel)."""
    g = conv_geometry(node)
    channels = g.in_c
    run = next(r for r in (16, 4, 1) if channels % r == 0)
    zero_point = tirx.const(node.x.zero_point, "int8")

    def element(x: Any, m: Any, k: Any) -> Any:
        lane = k % run if run > 1 else 0
        first = k - lane
        tap = first // channels
        place, inside = window_at(g, m, tap // g.kernel_w, tap % g.kernel_w)
        return read_or(x[place * channels + first % channels + lane], inside, zero_point)

    depth = g.kernel_h * g.kernel_w * channels
    return Gemm(node.y.elements // g.out_c, g.out_c, depth, node.x.elements, element, run)


def scale_of(node: Node, graph: Graph) -> Requantize:
    """Of a lowered conv2d or dense node: sums of w·x are rescaled."""
    w = graph.constant(node.inputs[1]).astype(np.int64)
    return requantize(node, graph, w.reshape(w.shape[0], -1).sum(axis=1), first=2)


def product_constants(product: Gemm, node: Node, graph: Graph) -> Mapping[str, Constant]:
    """w as `gemm` packs it, and the epilogue's."""
    w = graph.constant(node.inputs[1])
    packed = packed_weights(product, w.reshape(w.shape[0], -1))
    return {"w": packed} | scale_of(node, graph).constants


def _grouped_weights(node: Node, graph: Graph) -> Mapping[str, Constant]:
    """w as [kh, kw, channel of the group, output channel]: neighbours in threads are in memory."""
    w = graph.constant(node.inputs[1]).transpose(1, 2, 3, 0)
    return {"w": Constant(np.ravel(w), 16)} | scale_of(node, graph).constants


def _grouped(node: Node, graph: Graph) -> PrimFunc:
    """Each output by its own window; of a depthwise layer four channels at a time."""
    g, scale = conv_geometry(node), scale_of(node, graph)
    per_group = node.inputs[1].type.shape[3]
    per_out = g.out_c // node.attrs.groups
    x = te.placeholder((node.x.elements,), "int8", "x")
    w = te.placeholder((g.kernel_h * g.kernel_w * per_group * g.out_c,), "int8", "w")
    constants = scale.placeholders()
    extents = {"kh": g.kernel_h, "kw": g.kernel_w, "ki": per_group}
    kh, kw, ki = (te.reduce_axis((0, size), name) for name, size in extents.items())
    zero_point = tirx.const(node.x.zero_point, "int8")

    def tap(pixel: Any, channel: Any) -> Any:
        place, inside = window_at(g, pixel, kh, kw)
        source = channel // per_out * per_group + ki if (per_out, per_group) != (1, 1) else channel
        value = read_or(x[place * g.in_c + source], inside, zero_point)
        weight = w[((kh * g.kernel_w + kw) * per_group + ki) * g.out_c + channel]
        return value.astype("int32") * weight.astype("int32")

    shape = (node.y.elements // g.out_c, g.out_c)
    c = te.compute(shape, lambda p, o: te.sum(tap(p, o), axis=[kh, kw, ki]), name="C")
    y = te.compute(shape, lambda p, o: scale(c[p, o], *(v[o] for v in constants)), name="y")
    lanes = 4 if per_group == per_out == 1 and g.out_c % 4 == 0 else 1
    return reduction([x, w, *constants], y, lanes)


def sums_fit(node: Node, graph: Graph) -> bool:
    """Whether no sum of products leaves int32."""
    del graph
    return int(np.prod(node.inputs[1].type.shape[1:])) < _MAX_DEPTH


def _ungrouped(node: Node, graph: Graph) -> bool:
    return node.attrs.groups == 1 and sums_fit(node, graph)


RULES = (
    CudaRule(
        "conv2d",
        build=lambda node, graph: gemm(im2col(node), scale_of(node, graph)),
        constants=lambda node, graph: product_constants(im2col(node), node, graph),
        applies=_ungrouped,
    ),
    CudaRule("conv2d", build=_grouped, constants=_grouped_weights, applies=sums_fit),
)

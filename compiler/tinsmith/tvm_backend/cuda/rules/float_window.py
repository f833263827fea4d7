"""Float32 convolutions, dense layers and pooling: a window for each output, or for four."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ....ir.dtypes import DType
from ....ir.graph import Graph, Node
from ....kernels import Constant
from ....kernels.geometry import conv_geometry
from ....ops.average_pool import window_divisors
from ...import_tvm import PrimFunc, te, tirx
from ..float_math import clamp_real
from ..rule import CudaRule
from ..schedules import reduction
from ..window import read_or, window_at
from .pool import lanes_of, reduce_axes, shape_of, window

_FLOAT = "float32"


def _conv2d(node: Node, graph: Graph) -> PrimFunc:
    del graph
    g = conv_geometry(node)
    per_group = node.inputs[1].type.shape[3]
    per_out = g.out_c // node.attrs.groups
    x = te.placeholder((node.x.elements,), _FLOAT, "x")
    w = te.placeholder((g.kernel_h * g.kernel_w * per_group * g.out_c,), _FLOAT, "w")
    bias = te.placeholder((g.out_c,), _FLOAT, "bias")
    extents = {"kh": g.kernel_h, "kw": g.kernel_w, "ki": per_group}
    kh, kw, ki = (te.reduce_axis((0, size), name) for name, size in extents.items())
    zero = tirx.const(0, _FLOAT)

    def tap(pixel: Any, channel: Any) -> Any:
        place, inside = window_at(g, pixel, kh, kw)
        if per_group == per_out == 1:
            source = channel
        else:
            source = ki if node.attrs.groups == 1 else channel // per_out * per_group + ki
        value = read_or(x[place * g.in_c + source], inside, zero)
        return value * w[((kh * g.kernel_w + kw) * per_group + ki) * g.out_c + channel]

    shape = (node.y.elements // g.out_c, g.out_c)
    c = te.compute(shape, lambda p, o: te.sum(tap(p, o), axis=[kh, kw, ki]), name="C")
    y = te.compute(shape, lambda p, o: clamp_real(c[p, o] + bias[o], node.attrs.clamp), name="y")
    regular = node.attrs.groups == 1 or per_group == per_out == 1
    return reduction([x, w, bias], y, 4 if regular and g.out_c % 4 == 0 else 1)


def _conv_constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    """w as [kh, kw, channel of the group, output channel]."""
    w, bias = (graph.constant(v) for v in node.inputs[1:3])
    return {
        "w": Constant(np.ravel(w.transpose(1, 2, 3, 0)), 16),
        "bias": Constant(np.ravel(bias), 16),
    }


def _dense(node: Node, graph: Graph) -> PrimFunc:
    del graph
    depth, columns = node.x.shape[-1], node.y.shape[-1]
    x = te.placeholder((node.x.elements,), _FLOAT, "x")
    w = te.placeholder((depth * columns,), _FLOAT, "w")
    bias = te.placeholder((columns,), _FLOAT, "bias")
    k = te.reduce_axis((0, depth), "k")
    shape = (node.x.elements // depth, columns)
    c = te.compute(
        shape, lambda m, n: te.sum(x[m * depth + k] * w[k * columns + n], axis=k), name="C"
    )
    y = te.compute(shape, lambda m, n: clamp_real(c[m, n] + bias[n], node.attrs.clamp), name="y")
    return reduction([x, w, bias], y, 4 if columns % 4 == 0 else 1)


def _dense_constants(node: Node, graph: Graph) -> Mapping[str, Constant]:
    """w as [depth, columns]: neighbours in threads are in memory."""
    w, bias = (graph.constant(v) for v in node.inputs[1:3])
    return {"w": Constant(np.ravel(w.T), 16), "bias": Constant(np.ravel(bias), 16)}


def _max_pool(node: Node, graph: Graph) -> PrimFunc:
    del graph
    shape, taps = shape_of(node), reduce_axes(node)
    x = te.placeholder((node.x.elements,), _FLOAT, "x")
    lowest = tirx.const(float(np.finfo(np.float32).min), _FLOAT)

    def largest(p: Any, o: Any) -> Any:
        return te.max(window(node, x, (p, o), taps, lowest), axis=list(taps))

    c = te.compute(shape, largest, name="C")
    y = te.compute(shape, lambda p, o: clamp_real(c[p, o], node.attrs.clamp), name="y")
    return reduction([x], y, lanes_of(node))


def _average_pool(node: Node, graph: Graph) -> PrimFunc:
    del graph
    shape, taps = shape_of(node), reduce_axes(node)
    pixels = node.y.shape[1] * node.y.shape[2]
    x = te.placeholder((node.x.elements,), _FLOAT, "x")
    factor = te.placeholder((pixels,), _FLOAT, "factor")

    def total(p: Any, o: Any) -> Any:
        return te.sum(window(node, x, (p, o), taps, tirx.const(0, _FLOAT)), axis=list(taps))

    c = te.compute(shape, total, name="C")
    y = te.compute(
        shape, lambda p, o: clamp_real(c[p, o] * factor[p % pixels], node.attrs.clamp), name="y"
    )
    return reduction([x, factor], y, lanes_of(node))


def _factors(node: Node, graph: Graph) -> Mapping[str, Constant]:
    """1 / divisor of each pixel's window."""
    del graph
    divisors = window_divisors(node.x, node.attrs).ravel()
    return {"factor": Constant((1.0 / divisors).astype(np.float32), 16)}


RULES = (
    CudaRule("conv2d", _conv2d, DType.FLOAT32, _conv_constants),
    CudaRule("dense", _dense, DType.FLOAT32, _dense_constants),
    CudaRule("max_pool", _max_pool, DType.FLOAT32),
    CudaRule("average_pool", _average_pool, DType.FLOAT32, _factors),
)

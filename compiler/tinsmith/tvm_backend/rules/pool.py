"""average_pool and max_pool over NHWC, int8 and float32: channels in vectors, borders not read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from ...ir.dtypes import DType
from ...ir.graph import Node
from ...kernels import Constant
from ...kernels.portable._pool import lead_bytes
from ...ops.average_pool import window_divisors
from ..import_tvm import PrimFunc, T, tirx
from ..rule import Rule, Site
from ._emit import (
    Expr,
    Frame,
    Register,
    broadcast,
    clamp,
    clamp_real,
    const,
    define,
    loop,
    spans,
    vector,
)
from ._integers import Output, requantize, rescale
from ._strided import restored
from ._taps import window_pair

_UNROLLED_TAPS = 8
_Tap = Callable[[Expr, Expr, int], Expr]  # what a register becomes: (register, place, lanes)
_Finish = Callable[[Expr, Expr, Expr, int], None]  # (register, where it goes, pixel, lanes)


def _pool(node: Node, register: tuple[str, int, float], tap: _Tap, finish: _Finish) -> None:
    """register: type, lanes, start value."""
    dtype, lanes, start = register
    down, across = window_pair(node, node.attrs.kernel)
    channels, row = node.x.shape[3], node.x.shape[2] * node.x.shape[3]

    def pixel(n: Expr, oy: Expr, ox: Expr, low: int, high: int) -> None:
        place = n * node.y.shape[1] * across.out + oy * across.out + ox
        corner = n * node.x.shape[1] * row + down.origin(oy) * row + across.origin(ox) * channels

        def body(c: Expr, width: int) -> None:
            acc = Register.new(dtype, width)
            acc.set(const(start, dtype, width))
            with down.each_tap(oy) as ky:
                at = corner + ky * down.dilation * row + c
                step = across.dilation * channels
                if high - low <= _UNROLLED_TAPS:
                    for kx in range(low, high):
                        acc.set(tap(acc.value, at + kx * step, width))
                else:
                    with T.serial(low, high) as kx:
                        acc.set(tap(acc.value, at + kx * step, width))
            finish(acc.value, place * channels + c, place, width)

        spans(channels, lanes, body)

    with loop(node.x.shape[0]) as n, loop(down.out) as oy:
        for run in across.runs():
            with loop(run.count) as i:
                pixel(n, oy, run.first + i, run.low, run.high)


def build_max(site: Site) -> PrimFunc:
    """In the type that is stored; the bounds of the clamp as they are stored, too."""
    node = site.node
    real = node.y.dtype is DType.FLOAT32

    def body(frame: Frame) -> None:
        x, y = frame.x, frame.y
        lanes = 2 * site.isa.lanes if real else 64
        lowest = -math.inf if real else x.offset - 128

        def finish(value: Expr, at: Expr, place: Expr, width: int) -> None:
            del place
            if real:
                y.put(at, clamp_real(value, node.attrs.clamp, width), width)
                return
            low, high = (const(q + x.offset, x.dtype, width) for q in node.attrs.q_clamp)
            y.put(at, restored(clamp(value, low, high), x, y, width), width)

        def tap(value: Expr, at: Expr, width: int) -> Expr:
            return tirx.max(value, x.raw(at, width))

        _pool(node, (x.dtype, lanes, lowest), tap, finish)

    return define(site, body, overlaps=True)


def build_average(site: Site) -> PrimFunc:
    """Σ (x − z), by the multiplier of the window's divisor. A border adds nothing."""
    node = site.node
    output = Output(node.y.zero_point, *node.attrs.q_clamp)
    largest = 255 * math.prod(node.attrs.kernel)
    pixels = node.y.shape[1] * node.y.shape[2]

    def body(frame: Frame) -> None:
        x = frame.x
        centre = node.x.zero_point + x.offset

        def tap(acc: Expr, at: Expr, width: int) -> Expr:
            q = x.raw(at, width).astype(vector("int32", width))
            return acc + (q - const(centre, "int32", width))

        def finish(acc: Expr, at: Expr, place: Expr, width: int) -> None:
            if "kinds" in frame.constants:
                kind = frame.constants["kinds"].raw(place % pixels).astype("int32")
                factor = [frame.constants[name].raw(kind) for name in _FACTOR]
                value, dtype = rescale(acc, width, *factor)
            else:
                multiplier, shift = (int(site.graph.constant(v)[0]) for v in node.inputs[1:])
                value, dtype = requantize(acc, width, multiplier, shift, largest)
            output.store(frame.y, at, value, width, dtype)

        _pool(node, ("int32", 2 * site.isa.lanes, 0), tap, finish)

    return define(site, body, average_constants(site), overlaps=True)


def average_constants(site: Site) -> Mapping[str, Constant]:
    """With several divisors: kinds[OH·OW], and the factor of each kind as `rescale` takes it."""
    node, graph = site.node, site.graph
    divisors = window_divisors(node.x, node.attrs)
    kinds = np.unique(divisors)
    if len(kinds) == 1:
        return {}
    multiplier, shift = (graph.constant(v).astype(np.int64) for v in node.inputs[1:])
    arrays = (multiplier.astype(np.int32), np.int64(1) << (30 - shift), 31 - shift)
    return {
        "kinds": Constant(np.searchsorted(kinds, divisors.ravel()).astype(np.int16)),
        **{name: Constant(a) for name, a in zip(_FACTOR, arrays, strict=True)},
    }


def build_float_average(site: Site) -> PrimFunc:
    """Σ x divided by what counts."""
    node = site.node
    divisors = window_divisors(node.x, node.attrs)
    pixels = divisors.size

    def body(frame: Frame) -> None:
        def finish(acc: Expr, at: Expr, place: Expr, width: int) -> None:
            if "divisors" in frame.constants:
                divisor = broadcast(frame.constants["divisors"].raw(place % pixels), width)
            else:
                divisor = const(float(divisors.flat[0]), "float32", width)
            frame.y.put(at, clamp_real(acc / divisor, node.attrs.clamp, width), width)

        def tap(acc: Expr, at: Expr, width: int) -> Expr:
            return acc + frame.x.raw(at, width)

        _pool(node, ("float32", 2 * site.isa.lanes, 0.0), tap, finish)

    return define(site, body, float_average_constants(site), overlaps=True)


def float_average_constants(site: Site) -> Mapping[str, Constant]:
    divisors = window_divisors(site.node.x, site.node.attrs)
    if np.unique(divisors).size == 1:
        return {}
    return {"divisors": Constant(divisors.ravel().astype(np.float32))}


_FACTOR = ("multiplier", "rounding", "right")

RULES = (
    Rule("average_pool", build_average, constants=average_constants, lead_bytes=lead_bytes),
    Rule(
        "average_pool",
        build_float_average,
        DType.FLOAT32,
        constants=float_average_constants,
        lead_bytes=lead_bytes,
    ),
    Rule("max_pool", build_max, lead_bytes=lead_bytes),
    Rule("max_pool", build_max, DType.FLOAT32, lead_bytes=lead_bytes),
)

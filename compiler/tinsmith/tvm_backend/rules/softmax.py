"""softmax along any axis, int8 (the integer form of ops/softmax.py) and float32."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from ...ir.dtypes import DType
from ...ir.graph import Node
from ...kernels import Constant
from ...kernels.portable.softmax import lead_bytes
from ..import_tvm import PrimFunc, tirx
from ..rule import Rule, Site
from ._emit import (
    Expr,
    Frame,
    Register,
    Tensor,
    bind,
    broadcast,
    clamp,
    const,
    define,
    loop,
    nest,
    spans,
    tails,
)
from ._float_functions import exp

_NARROW_NUMERATOR = 2**16  # up to here the quotient is exact in float64


def _row(node: Node) -> tuple[int, int, int]:
    """Rows before the axis, its length, elements between its neighbours."""
    shape, axis = node.x.shape, node.attrs.axis
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])


def constants(site: Site) -> Mapping[str, Constant]:
    return {"table": Constant(np.ravel(site.graph.constant(site.node.inputs[1])))}


def build_integer(site: Site) -> PrimFunc:
    """Row by row, and lane by lane of the inner axes: maximum, Σ table, quotients."""
    node = site.node
    outer, length, step = _row(node)

    def row(frame: Frame, start: Expr) -> None:
        x, table = frame.x, frame.constants["table"]
        peak, total = Register.new("int32", 1), Register.new("int64", 1)
        peak.set(const(-256, "int32"))
        total.set(const(0, "int64"))

        def stored(i: Expr) -> Expr:
            return x.raw(start + i * step).astype("int32")

        def exponential(i: Expr) -> Expr:
            return table.raw(peak.value - stored(i)).astype("int64")

        with loop(length) as i:
            peak.set(tirx.max(peak.value, stored(i)))
        with loop(length) as i:
            total.set(total.value + exponential(i))
        with loop(length) as i:
            q = _quotient(node, exponential(i), total.value) + node.y.zero_point
            low, high = const(-128, "int64"), const(127, "int64")
            frame.y.store(start + i * step, clamp(q, low, high), 1, "int64")

    def body(frame: Frame) -> None:
        nest([outer, step], lambda r, lane: row(frame, r * (length * step) + lane))

    return define(site, body, constants(site), overlaps=True)


def _quotient(node: Node, e: Expr, total: Expr) -> Expr:
    """⌊(e·numerator + (Σ·2^bits) / 2) / (Σ·2^bits)⌋, int64.

    In float64 where that is exact: as Σ is below 2^32, a quotient that is no integer is further
    than 2^−32 from one, and rounding moves it by less than 2^16 · 2^−52.
    """
    attrs = node.attrs
    whole = total << const(attrs.bits, "int64")
    dividend = e * const(attrs.numerator, "int64") + (whole >> const(1, "int64"))
    if attrs.bits == 0 and attrs.numerator <= _NARROW_NUMERATOR:
        real = dividend.astype("float64") / whole.astype("float64")
        return real.astype("int64")
    return tirx.truncdiv(dividend, whole)


def build_float(site: Site) -> PrimFunc:
    """exp(x − max) / Σ, float32."""
    node = site.node
    outer, length, step = _row(node)
    lanes = site.isa.lanes

    def body(frame: Frame) -> None:
        with loop(outer) as r:
            start = r * (length * step)
            if step == 1:
                _contiguous_row(frame, start, length, lanes)
            else:
                spans(step, lanes, lambda c, width: _lanes(frame, start + c, length, step, width))

    return define(site, body, overlaps=True)


def _lanes(frame: Frame, start: Expr, length: int, step: int, width: int) -> None:
    """`width` rows side by side."""
    x, y = frame.x, frame.y
    peak, total = Register.new("float32", width), Register.new("float32", width)
    peak.set(const(-math.inf, "float32", width))
    total.set(const(0.0, "float32", width))
    with loop(length) as i:
        peak.set(tirx.max(peak.value, x.raw(start + i * step, width)))
    with loop(length) as i:
        e = bind(exp(x.raw(start + i * step, width) - peak.value, width))
        y.put(start + i * step, e, width)
        total.set(total.value + e)
    factor = bind(const(1.0, "float32", width) / total.value)
    with loop(length) as i:
        y.put(start + i * step, y.raw(start + i * step, width) * factor, width)


def _contiguous_row(frame: Frame, start: Expr, length: int, lanes: int) -> None:
    x, y = frame.x, frame.y
    widths = [lanes] if length >= lanes else []
    widths += [w for _, w in tails(length - length % lanes, length, lanes)]
    peaks = {w: Register.new("float32", w) for w in widths}
    totals = {w: Register.new("float32", w) for w in widths}
    for w in widths:
        peaks[w].set(const(-math.inf, "float32", w))
        totals[w].set(const(0.0, "float32", w))
    spans(length, lanes, lambda at, w: peaks[w].set(tirx.max(peaks[w].value, x.raw(start + at, w))))
    peak = bind(_fold(peaks, tirx.max))

    def exponentials(at: Expr, w: int) -> None:
        e = bind(exp(x.raw(start + at, w) - broadcast(peak, w), w))
        y.put(start + at, e, w)
        totals[w].set(totals[w].value + e)

    spans(length, lanes, exponentials)
    factor = bind(const(1.0, "float32") / _fold(totals, lambda a, b: a + b))
    spans(
        length,
        lanes,
        lambda at, w: y.put(start + at, y.raw(start + at, w) * broadcast(factor, w), w),
    )


def _fold(registers: Mapping[int, Register], function: object) -> Expr:
    """All lanes of all registers as one."""
    parts = [
        Tensor(r.buffer, r.dtype).raw(lane) for r in registers.values() for lane in range(r.lanes)
    ]
    while len(parts) > 1:
        pairs = zip(parts[::2], parts[1::2], strict=False)
        parts = [function(a, b) for a, b in pairs] + parts[len(parts) & ~1 :]  # pyright: ignore
    return parts[0]


RULES = (
    Rule("softmax", build_integer, constants=constants, lead_bytes=lead_bytes),
    Rule("softmax", build_float, DType.FLOAT32, lead_bytes=lead_bytes),
)

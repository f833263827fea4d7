"""quantize_gradient, mask_gradient and masks: elements in a row, eight to a byte of a mask.

quantize_gradient looks at its input twice: for the largest magnitude, then to scale by it. Channels
need no loop: the factors are repeated until a vector may begin at any of them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...ir.dtypes import DType
from ...kernels import Constant
from ...kernels.portable import quantize_gradient as portable
from ..import_tvm import PrimFunc, T, tirx
from ..rule import Rule, Site
from ._emit import (
    Expr,
    Frame,
    Register,
    Tensor,
    bind,
    broadcast,
    const,
    define,
    divided,
    spans,
    vector,
)
from ._float_functions import power_of_two
from ._update_rules import INFINITY, magnitude_bits

_DY, _MASK = 0, 2  # positions among the inputs of quantize_gradient
_LEAST = -126
_ABOVE_127 = 0x1FFFF  # what takes the bits of more than 127/64 · 2^k to the next power
_BITS_OF_127 = 133  # biased exponent of 1, and the 6 of 64


def _mask_bits(mask: Tensor, at: Expr, lanes: int) -> Expr:
    """Whether each of `lanes` elements from `at` on is set; vectors begin at a multiple of them."""
    if lanes < 8:
        byte = bind(mask.load(at >> 3, 1, "int32") >> (at & 7))
        held = broadcast(byte, lanes)
    else:
        raw = mask.raw(at >> 3, lanes // 8)
        dtype = f"uint{lanes}"
        held = broadcast(T.reinterpret(raw, dtype=dtype).astype("int32"), lanes)
    bits = held & _powers(lanes)
    return bits != const(0, "int32", lanes)


def _powers(lanes: int) -> Expr:
    """1, 2, 4…"""
    if lanes == 1:
        return const(1, "int32")
    return const(1, "int32", lanes) << T.ramp(const(0, "int32"), 1, lanes)


def factors(site: Site) -> Mapping[str, Constant]:
    """The factor of every channel, and again those of the first ones."""
    found = np.ravel(site.graph.constant(site.node.inputs[1]))
    return {"factor": Constant(np.resize(found, found.size + site.isa.lanes - 1), 64)}


def _quantize(site: Site) -> PrimFunc:
    node, lanes_ = site.node, site.isa.lanes
    elements, channels = node.x.elements, node.x.shape[-1]

    def body(frame: Frame) -> None:
        def scaled(at: Expr, lanes: int) -> Expr:
            _, channel = divided(at, channels)
            t = frame.inputs[_DY].raw(at, lanes) * frame.constants["factor"].raw(channel, lanes)
            if _MASK in frame.inputs:
                inside = _mask_bits(frame.inputs[_MASK], at, lanes)
                t = tirx.Select(inside, t, const(0, "float32", lanes))
            return bind(t)

        most = Register.new("int32", lanes_)
        most.set(const(0, "int32", lanes_))
        rest = Register.new("int32", 1)
        rest.set(const(0, "int32"))

        def look(at: Expr, lanes: int) -> None:
            bits = magnitude_bits(scaled(at, lanes), lanes)
            if lanes == lanes_:
                most.set(tirx.max(most.value, bits))
            else:
                _widest(rest, bits, lanes)

        spans(elements, lanes_, look)
        _widest(rest, most.value, lanes_)
        largest = bind(rest.value)
        finite = bind(largest < const(INFINITY, "int32"))
        above = ((largest + _ABOVE_127) >> 23) - _BITS_OF_127
        exponent = bind(tirx.Select(finite, tirx.max(above, _LEAST), _LEAST))
        scale = bind(tirx.Select(finite, power_of_two(-exponent), const(0, "float32")))
        frame.outputs[1].put(0, exponent)

        def write(at: Expr, lanes: int) -> None:
            t = tirx.nearbyint(scaled(at, lanes) * broadcast(scale, lanes))
            held = const(0, "float32", lanes)
            known = tirx.Select(broadcast(finite, lanes), t, held)
            frame.y.store(at, known.astype(vector("int32", lanes)), lanes, "int32")

        spans(elements, lanes_, write)

    return define(site, body, factors(site), overlaps=True)


def _widest(held: Register, bits: Expr, lanes: int) -> None:
    """The largest of the lanes goes to `held` of a single one."""
    parts = Register.new("int32", lanes)
    parts.set(bits)
    for lane in range(lanes):
        held.set(tirx.max(held.value, Tensor(parts.buffer, "int32").raw(lane)))


def _masked(site: Site) -> PrimFunc:
    def body(frame: Frame) -> None:
        dy, mask = frame.inputs[0], frame.inputs[1]

        def part(at: Expr, lanes: int) -> None:
            inside = _mask_bits(mask, at, lanes)
            value = tirx.Select(inside, dy.raw(at, lanes), const(0, "float32", lanes))
            frame.y.put(at, value, lanes)

        spans(site.node.y.elements, site.isa.lanes, part)

    return define(site, body, overlaps=True)


def _inside_mask(site: Site) -> PrimFunc:
    """clip_mask of int8, clamp_mask of float32: bytes in vectors, of every eighth element."""
    attrs, x = site.node.attrs, site.node.x
    dtype = "float32" if x.dtype is DType.FLOAT32 else "int32"

    def body(frame: Frame) -> None:
        low, high = (b + frame.x.offset for b in (attrs.low, attrs.high))

        def part(at: Expr, lanes: int, bits: int = 8) -> None:
            none = const(0, "int32", lanes)
            total = none
            for bit in range(bits):
                q = bind(frame.x.raw(at * 8 + bit, lanes, 8).astype(vector(dtype, lanes)))
                one = const(1 << bit, "int32", lanes)
                below = tirx.Select(q < const(high, dtype, lanes), one, none)
                total = total | tirx.Select(q > const(low, dtype, lanes), below, none)
            frame.y.put(at, total.astype(vector("uint8", lanes)), lanes)

        spans(x.elements // 8, site.isa.lanes, part)
        if x.elements % 8:
            part(x.elements // 8, 1, x.elements % 8)

    return define(site, body, overlaps=True)


RULES = (
    Rule(
        "quantize_gradient",
        _quantize,
        constants=factors,
        lead_bytes=portable.first_in_place,
    ),
    Rule("mask_gradient", _masked, DType.FLOAT32, lead_bytes=portable.first_in_place),
    Rule("clip_mask", _inside_mask, DType.UINT8, lead_bytes=portable.first_in_place),
    Rule("clamp_mask", _inside_mask, DType.UINT8, lead_bytes=portable.first_in_place),
)

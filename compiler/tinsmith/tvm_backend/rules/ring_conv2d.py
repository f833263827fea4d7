"""ring_conv2d: a convolution in Z_2^32, the bulk of a layer that one-time pads protect.

Sums are taken in int64, where nothing overflows, and stored modulo 2^32.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...ir.dtypes import DType
from ...kernels import Constant
from ..import_tvm import PrimFunc
from ..rule import Rule, Site
from ._direct import Arithmetic, Layer, conv_layer, emit, store
from ._emit import Expr, Frame, Register, Tensor, const, define, vector


def _layer(site: Site) -> Layer:
    w, m = (v.type for v in site.node.inputs)
    return conv_layer(site.node, m, w, max(2, site.isa.lanes // 2), site.isa.registers)


def constants(site: Site) -> Mapping[str, Constant]:
    return {"w": _layer(site).packed(site.graph.constant(site.node.inputs[0]))}


def build(site: Site) -> PrimFunc:
    layer = _layer(site)

    def body(frame: Frame) -> None:
        def finish(at: Expr, total: Register, count: int) -> None:
            wrapped = Register.new("int32", total.lanes)
            wrapped.set(total.value.astype(vector("int32", total.lanes)))
            store(frame.y, at, wrapped, count)

        zero = const(0, "int64", layer.lanes)
        w: Tensor = frame.constants["w"]
        emit(layer, Arithmetic("int64", frame.x, w, lambda at: zero, finish))

    return define(site, body, constants(site))


RULES = (Rule("ring_conv2d", build, DType.INT32, constants=constants),)

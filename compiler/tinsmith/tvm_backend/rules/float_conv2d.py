"""conv2d and dense in float32, NHWC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ...ir.dtypes import DType
from ...ir.graph import Graph, Node
from ...kernels import Constant
from ..import_tvm import PrimFunc
from ..rule import Rule, Site, tile_of
from ._direct import Arithmetic, Layer, conv_layer, emit, row_layer, store
from ._emit import Expr, Frame, Register, clamp_real, define
from .float_depthwise import is_plain_depthwise


def _layer(site: Site) -> Layer:
    layer = _untiled(site)
    return replace(layer, tile=tile_of(site, layer.tiles))


def tiles(site: Site) -> list[tuple[int, int]]:
    return _untiled(site).tiles


def _untiled(site: Site) -> Layer:
    node, isa = site.node, site.isa
    w = node.inputs[1].type
    if node.op.name == "dense":
        out, k = w.shape
        return row_layer(node.y.elements // out, k, out, 1, isa.lanes, isa.registers)
    return conv_layer(node, node.x, w, isa.lanes, isa.registers)


def constants(site: Site) -> Mapping[str, Constant]:
    """w and bias, packed as `Layer` says."""
    layer = _layer(site)
    w, bias = (np.asarray(site.graph.constant(v), np.float32) for v in site.node.inputs[1:3])
    return {"w": layer.packed(w), "bias": layer.padded(bias)}


def build(site: Site) -> PrimFunc:
    layer, clamp = _layer(site), site.node.attrs.clamp

    def body(frame: Frame) -> None:
        def finish(at: Expr, total: Register, count: int) -> None:
            total.set(clamp_real(total.value, clamp, total.lanes))
            store(frame.y, at, total, count)

        w, bias = frame.constants["w"], frame.constants["bias"]

        def start(at: Expr) -> Expr:
            return bias.raw(at, layer.lanes)

        emit(layer, Arithmetic("float32", frame.x, w, start, finish))

    return define(site, body, constants(site))


def applies(node: Node, graph: Graph) -> bool:
    """Depthwise ones have their own rule."""
    return not is_plain_depthwise(node, graph)


RULES = (
    Rule("conv2d", build, DType.FLOAT32, constants=constants, applies=applies, tiles=tiles),
    Rule("dense", build, DType.FLOAT32, constants=constants, tiles=tiles),
)

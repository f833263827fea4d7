"""sum_gradients of float32: two products and a sum, each rounded by itself."""

from __future__ import annotations

import numpy as np

from ...ir.dtypes import DType
from ...kernels.portable._elementwise import in_place
from ..import_tvm import PrimFunc
from ..rule import Rule, Site
from ._emit import Expr, Frame, const, define, spans
from ._update_rules import rounded


def build(site: Site) -> PrimFunc:
    attrs = site.node.attrs

    def body(frame: Frame) -> None:
        def part(at: Expr, lanes: int) -> None:
            products = [
                rounded(
                    dy.raw(at, lanes) * const(float(np.float32(factor)), "float32", lanes), lanes
                )
                for dy, factor in zip(
                    frame.inputs.values(), (attrs.factor1, attrs.factor2), strict=True
                )
            ]
            frame.y.put(at, products[0] + products[1], lanes)

        spans(site.node.y.elements, site.isa.lanes, part)

    return define(site, body, overlaps=True)


RULES = (Rule("sum_gradients", build, DType.FLOAT32, lead_bytes=in_place),)

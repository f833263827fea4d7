"""lookup: a table of 256 entries, rotated so that what is stored is the index."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...kernels import Constant
from ...kernels.portable._elementwise import in_place
from ..import_tvm import PrimFunc, T
from ..rule import Rule, Site
from ._emit import Expr, Frame, define, spans, vector

_LANES = 16


def constants(site: Site) -> Mapping[str, Constant]:
    """table[stored x] is what is stored of y."""
    node = site.node
    table = np.ravel(site.graph.constant(node.inputs[1]))
    stored = np.arange(256) if site.offset(node.inputs[0]) else np.arange(256) ^ 128
    values = table[stored].astype(np.int16) + site.offset(node.outputs[0])
    return {"table": Constant(values.astype(site.dtype(node.outputs[0])))}


def build(site: Site) -> PrimFunc:
    def body(frame: Frame) -> None:
        x, y, table = frame.x, frame.y, frame.constants["table"]

        def part(at: Expr, lanes: int) -> None:
            index = T.reinterpret(x.raw(at, lanes), dtype=vector("uint8", lanes))
            y.put(at, table.buffer[index.astype(vector("int32", lanes))], lanes)

        spans(site.node.y.elements, _LANES, part)

    return define(site, body, constants(site), overlaps=True)


RULES = (Rule("lookup", build, constants=constants, lead_bytes=in_place),)

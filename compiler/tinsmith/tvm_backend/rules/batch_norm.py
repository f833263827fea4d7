"""batch_norm, float32: x · factor + offset, both computed at compile time."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ...ir.dtypes import DType
from ...kernels import Constant
from ...kernels.portable import batch_norm as portable
from ...kernels.portable._elementwise import in_place
from ...ops.batch_norm import channel_axis
from ..import_tvm import PrimFunc
from ..rule import Rule, Site
from ._emit import Expr, Frame, define, loop, spans


def constants(site: Site) -> Mapping[str, Constant]:
    return portable.constants(site.node, site.graph)


def build(site: Site) -> PrimFunc:
    """Channels in vectors where they are the last axis, else one after the other."""
    node = site.node
    axis = channel_axis(node.attrs) % node.x.rank
    outer, channels = math.prod(node.x.shape[:axis]), node.x.shape[axis]
    inner = math.prod(node.x.shape[axis + 1 :])

    def body(frame: Frame) -> None:
        factor, offset = (frame.constants[name] for name in ("factor", "offset"))

        def scaled(at: Expr, a: Expr, b: Expr, lanes: int) -> None:
            frame.y.put(at, frame.x.raw(at, lanes) * a + b, lanes)

        def channel_vector(start: Expr) -> None:
            spans(
                channels,
                site.isa.lanes,
                lambda c, n: scaled(start + c, factor.raw(c, n), offset.raw(c, n), n),
            )

        def channel_plane(start: Expr, c: Expr) -> None:
            def part(at: Expr, n: int) -> None:
                a, b = (t.spread(c, n, "float32") for t in (factor, offset))
                scaled(start + at, a, b, n)

            spans(inner, site.isa.lanes, part)

        with loop(outer) as i:
            if inner == 1:
                channel_vector(i * channels)
            else:
                with loop(channels) as c:
                    channel_plane((i * channels + c) * inner, c)

    return define(site, body, constants(site), overlaps=True)


RULES = (Rule("batch_norm", build, DType.FLOAT32, constants=constants, lead_bytes=in_place),)

"""conv2d_columns: blocks of four pixels of a row × two channels, twice."""

from __future__ import annotations

from ....ir.graph import Node
from ...geometry import conv_geometry
from .._types import Counts, View, bounds, moved, wide
from ._sizes import copied, filled, merged


def columns(node: Node, v: View) -> Counts:
    """The lines of a row of outputs are copied with their border first."""
    g = conv_geometry(node)
    fours = g.out_h * -(-g.out_w // 4)
    quads = fours * g.out_c // 4
    unrolled = bool(v["unrolled"])
    over = not unrolled and g.kernel_h * v["line_bytes"] > 4095
    step = moved(v["line_bytes"])
    back = moved((g.kernel_h - unrolled) * v["line_bytes"])
    moves = 2 * quads * ((g.kernel_h - unrolled) * step + back + over * wide(v["offset"]))
    moves += fours * (moved(4 * g.stride_w * g.in_c) + moved(3 * g.out_c))
    more = 2 * bounds(v) + 4 * (v["scale_up"] > 0) + (0 if v["uniform"] else 4)
    tops = [oy * g.stride_h - g.pad_top for oy in range(g.out_h)]
    inside = sum(0 <= t + ky * g.dilation_h < g.in_h for t in tops for ky in range(g.kernel_h))
    outside = g.out_h * g.kernel_h - inside
    right = v["line_bytes"] - (g.pad_left + v["taken"]) * g.in_c
    return merged(
        {
            "row.calls": g.out_h * (1 + (g.out_w % 4 > 0)),
            "row.fours": fours,
            "row.quads": quads,
            f"row.chunks{v['columns']}": 2 * quads * g.kernel_h * v["chunks"],
            "row.looped_lines": 0 if unrolled else 2 * quads * g.kernel_h,
            "row.looped_pairs": 0 if unrolled else 2 * quads,
            "row.vectors": quads * more,
            "row.moves": moves,
            "c.calls": 1,
            "c.rows": g.out_h,
            "c.last_fours": g.out_h * (g.out_w % 4 > 0),
            "c.lines": inside,
            "c.outside": outside,
        },
        filled("c", outside, v["line_bytes"]),
        filled("c", inside, g.pad_left * g.in_c) if g.pad_left else {},
        filled("c", inside, right) if right else {},
        copied("c", inside, v["taken"] * g.in_c),
    )

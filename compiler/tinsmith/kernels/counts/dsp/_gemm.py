"""conv2d_gemm: blocks of four pixels × two channels; and depthwise, one pixel × four channels. Both
put windows together (im2col.j2), of all pixels or of those at the border."""

from __future__ import annotations

from ...geometry import Geometry
from .._types import Counts, View, bounds, moved
from ._sizes import Windows, known_copies, rounds


def gemm(g: Geometry, v: View) -> Counts:
    fours = -(-g.pixels // 4)
    blocks = fours * -(-g.out_c // 2)
    form = "" if v["radix"] else " plain"
    stored = g.pixels % 4 if v["direct_store"] else g.pixels
    found = {
        "block.calls": fours,
        f"block.pairs{form}": blocks,
        f"block.steps{form}": blocks * v["k_pairs"],
        **rounds("block.", blocks, v["rounds"]),
        "block.compared": 8 * blocks * bounds(v),
        "block.scaled": 8 * blocks * bool(v["scale_up"]),
        "c.calls": 1,
        f"c.fours {v['direct_rows']}": fours,
        **known_copies("c.store", g.out_c, stored),
    }
    direct = v["direct_rows"] and v["direct_store"] and 3 * g.in_c <= 4095
    whole = g.pixels // 4 if direct else 0
    single = g.pixels - 4 * whole
    found |= {
        "c.pixels": single,
        "widen_four.calls": whole,
        "widen_four.quads": whole * (g.in_c // 4),
        **rounds("widen_four.", whole, g.in_c // 4),
        "widen.calls": single,
        "widen.quads": single * (v["k_pairs"] // 2),
        **rounds("widen.", single, -(-v["k_pairs"] // (2 if v["direct_rows"] else 8))),
    }
    return found if v["direct_rows"] else found | _put_together(g, "pixel", Windows.of(g))


def depthwise(g: Geometry, v: View) -> Counts:
    windows = Windows.of(g)
    edge = int(windows.at_border.sum())
    inner = g.pixels - edge
    lines = g.inner_rows[1] - g.inner_rows[0] if inner else 0
    found: Counts = {"c.calls": 1, "c.rows": g.out_h, "c.lines": lines}
    if inner:
        row, pixel = g.dilation_h * g.in_w * g.in_c, g.stride_w * g.in_c
        found |= _depthwise_block("inner", g, v, lines, inner, row, pixel)
    if edge:
        found |= {"c.walked": g.pixels, "c.edges": edge}
        found |= _depthwise_block("border", g, v, edge, edge, g.kernel_w * g.in_c, 0)
        found |= _put_together(g, "border_pixel", windows.taken(windows.at_border))
    return found


def _depthwise_block(
    name: str, g: Geometry, v: View, calls: int, pixels: int, row: int, pixel: int
) -> Counts:
    """row, pixel: bytes from one to the next."""
    groups = pixels * (g.in_c // 4)
    moves = (g.kernel_h - 1) * moved(row) + moved(4 - (g.kernel_h - 1) * row)
    return {
        f"{name}.calls": calls,
        f"{name}.pixels": pixels,
        f"{name}.groups": groups,
        f"{name}.pairs": groups * g.kernel_h * (g.kernel_w // 2),
        f"{name}.odd": groups * g.kernel_h * (g.kernel_w % 2),
        f"{name}.moves": groups * moves + pixels * moved(pixel),
        f"{name}.compared": groups * 4 * bounds(v),
        f"{name}.scaled": groups * 4 * bool(v["scale_up"]),
    }


def _put_together(g: Geometry, part: str, windows: Windows) -> Counts:
    """Windows that become runs of bytes: lines outside, inside, and cut, which go tap by tap."""
    inside = g.kernel_h - windows.outside
    cut = windows.cut | (g.dilation_w > 1)
    outside, whole = float(windows.outside.sum()), float(inside[~cut].sum())
    lines, run = float(inside[cut].sum()), g.kernel_w * g.in_c
    filled = float((inside * (windows.before + windows.behind))[cut].sum())
    return {
        f"{part}.windows": len(windows.outside),
        f"{part}.lines": float(inside.sum()),
        f"{part}.cut": lines,
        **known_copies(f"{part}.outside", run, outside),
        **known_copies(f"{part}.line", run, whole),
        **known_copies(f"{part}.tap", g.in_c, lines * g.kernel_w - filled),
        **known_copies(f"{part}.fill", g.in_c, filled),
    }

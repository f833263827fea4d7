"""conv2d_gemm and conv2d_strips: blocks of two pixels × four channels (gemm_block.j2)."""

from __future__ import annotations

from ....ir.graph import Node
from ...geometry import conv_geometry
from .._types import Counts, View, bounds, moved
from ._sizes import copied, filled, gathered, offset_words


def gemm(node: Node, v: View) -> Counts:
    """In one call and perhaps a last pixel, or pair by pair."""
    g = conv_geometry(node)
    at_once, pairs = v["direct"] and v["padded_c"] == g.out_c, -(-g.pixels // 2)
    found = _block(v, 1 + g.pixels % 2 if at_once else pairs, pairs)
    found |= {"c.calls": 1}
    if v["direct"]:
        found["c.direct_turns"] = 0 if at_once else pairs
    else:
        found |= {"c.turns": pairs, "c.gathered": g.pixels, **gathered(g)}
    if v["padded_c"] != g.out_c:
        found |= {"c.stored": g.pixels, **copied("c", g.pixels, g.out_c)}
    return found


def strips(node: Node, v: View) -> Counts:
    """A column of outputs after the other, in bands of rows."""
    g = conv_geometry(node)
    firsts = range(0, g.out_h, v["band"])
    bands = [min(v["band"], g.out_h - first) for first in firsts]
    calls = g.out_w * sum((rows > 1) + rows % 2 for rows in bands)
    pairs = g.out_w * sum(rows // 2 + rows % 2 for rows in bands)
    tops = [first * g.stride_h - g.pad_top for first in firsts]
    taken = (v["band"] - 1) * g.stride_h + g.kernel_h
    lines = sum(max(min(top + taken, g.in_h) - max(top, 0), 0) for top in tops)
    turns = g.out_w * len(bands)
    return {
        **_block(v, calls, pairs),
        "c.calls": 1,
        "c.turns": turns,
        "c.blocks": calls,
        "strip.calls": turns,
        "strip.lines": g.out_w * lines,
        **filled("strip", turns, v["strip_bytes"]),
    }


def _block(v: View, calls: int, pairs: int) -> Counts:
    """Of so many pairs of pixels, in so many calls."""
    chunks, tail = v["chunks"], v["tail"] > 0
    sixteens, rests = v["padded_c"] // 16, v["padded_c"] % 16 // 8 + v["padded_c"] % 8 // 4
    groups, loops = pairs * v["padded_c"] // 4, chunks > v["unroll"]
    held = bool(v["uniform"]) and chunks + tail == 1
    narrowed, stores = 2 * (2 * sixteens + rests), 2 * (sixteens + rests)
    prepared = (groups if v["uniform"] else pairs * (sixteens + rests)) if loops else calls
    more = (2 if v["scale_up"] else 0) + (0 if v["uniform"] else 3)
    steps = 2 * moved(2 * v["x_step"]) + 2 * moved(2 * v["y_step"] - v["padded_c"])
    return {
        "block.calls": calls,
        "block.pairs": pairs,
        "block.groups": 0 if held else groups,
        "block.held_groups": groups if held else 0,
        "block.chunks": 0 if held else groups * chunks,
        "block.tails": 0 if held or not tail else groups,
        "block.looped_groups": groups if loops else 0,
        "block.rounds": groups * chunks // v["unroll"] if loops else 0,
        "block.sixteens": pairs * sixteens,
        "block.looped_sixteens": pairs * sixteens if sixteens > 1 else 0,
        "block.rests": pairs * rests,
        "block.vectors": pairs * (2 * stores * bounds(v) + (0 if v["uniform"] else narrowed))
        + groups * more,
        "block.moves": prepared * offset_words(v) + pairs * (steps + (held and tail)),
    }

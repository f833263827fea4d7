"""depthwise_planes and depthwise_flat: eight channels at a time, transposed into planes."""

from __future__ import annotations

from ....ir.graph import Node
from ...geometry import Geometry, conv_geometry
from .._types import Counts, View, bounds, moved
from ._sizes import filled, offset_words


def planes(node: Node, v: View) -> Counts:
    """In strips, along the axis that suits; NAME_channel has all of those of a band."""
    del node
    g: Geometry = v["g"]
    bands, groups = -(-v["strips"] // v["band"]), -(-g.in_c // 8)
    rest = v["rest"] > 0
    channels, strips = g.in_c * bands, g.in_c * v["strips"]
    blocks = strips * (v["whole"] + rest)
    masked = v["mask"] != 65535 or v["last_mask"] != 65535
    looped = v["whole"] > 1
    kept = groups * bands if v["keeps"] else 0
    vectors = v["strip_bytes"] // 16
    return {
        f"channel.blocks{v['lines']}": blocks,
        "channel.strips": strips,
        "channel.masked_strips": strips if masked else 0,
        "channel.looped_strips": strips if looped else 0,
        "channel.turns": strips * v["whole"] if looped else 0,
        "channel.calls": channels,
        "channel.moves": strips * _steps(v) + channels * offset_words(v) + blocks * masked,
        "channel.vectors": blocks * _more(v),
        "c.calls": 1,
        "c.groups": groups,
        "c.bands": groups * bands,
        "c.channels": channels,
        "c.kept": kept,
        **filled("c", 1, 8 * v["plane_bytes"]),
        **_fill(v, groups),
        "keep.calls": kept,
        "keep.vectors": 8 * kept * vectors,
        "keep.looped": 8 * kept if vectors > v["keep_unroll"] else 0,
        "keep.rounds": 8 * kept * vectors // v["keep_unroll"] if vectors > v["keep_unroll"] else 0,
        "keep.words": 8 * kept * (v["strip_bytes"] % 16 // 4),
    }


def _more(v: View) -> int:
    """Vectors that the end of a block has, by form (planes_eight.j2)."""
    return 2 * bounds(v) + 2 * (v["scale_up"] > 0) + (0 if v["uniform"] else 3)


def _steps(v: View) -> int:
    """Instructions from block to block and strip to strip."""
    size, columns, rest = 16 if v["lines"] == 4 else 48, v["columns"], v["rest"]
    done = v["g"].out_w - columns if rest else v["whole"] * columns
    back = size // columns
    end = v["strip_bytes"] - size * v["whole"] - (back * rest if rest else 0)
    found = moved(columns * v["out_column"]) * v["whole"]
    found += moved(end) + moved(v["out_strip"] - done * v["out_column"])
    if rest:
        found += moved(back * (columns - rest)) + moved(v["out_column"] * (columns - rest))
    return found


def _fill(v: View, groups: int) -> Counts:
    """planes_fill.j2: lines of eight channels put into strips once or twice, or border."""
    lines = dict.fromkeys(("once", "twice", "border"), 0)
    calls = 0
    for first in range(0, v["strips"], v["band"]):
        count, calls = min(v["band"], v["strips"] - first), calls + groups
        for pair in range(1 if v["keeps"] and first else 0, count + 1):
            iy, twice = 2 * (first + pair) - v["g"].pad_top, 0 < pair < count
            both = [(iy, twice), (iy + 1, twice and v["lines"] == 4)]
            for y, again in both[: 1 if v["lines"] == 3 and pair == count else 2]:
                inside = 0 <= y < v["g"].in_h
                lines[("twice" if again else "once") if inside else "border"] += groups
    loaded = (lines["once"] + lines["twice"]) * v["taken"]
    return {
        "fill.calls": calls,
        **{f"fill.lines_{kind}": count for kind, count in lines.items()},
        **{f"fill.put_{kind}": count * v["taken"] for kind, count in lines.items()},
        "fill.rounds": sum(lines.values()) * (v["taken"] // v["unroll"]),
        "fill.moves": loaded * ((v["in_column"] >= 128) + (v["in_c"] % 8 > 0)),
    }


def flat(node: Node, v: View) -> Counts:
    """A plane of eight channels whole; NAME_channels has all of them."""
    g = conv_geometry(node)
    groups, channels = -(-g.in_c // 8), g.in_c
    turns, rests, whole = v["turn_loads"], v["rest_loads"], v["whole"]
    blocks = channels * (whole * len(turns) + len(rests))
    starts = [0, *v["rest"]]
    moves = whole * (len(turns) * moved(8 * g.out_c) + moved(v["turn_bytes"]))
    moves += sum(moved((b - a) * g.out_c) for a, b in zip(starts, v["rest"], strict=False))
    put = groups * v["taken_h"] * g.in_w
    return {
        "channels.calls": groups,
        "channels.channels": channels,
        "channels.starts": channels * len(v["starts"]),
        "channels.blocks": blocks,
        "channels.loads": channels * (whole * sum(map(len, turns)) + sum(map(len, rests))),
        "channels.looped": channels if whole > 1 else 0,
        "channels.turns": channels * whole if whole > 1 else 0,
        "channels.moves": channels * (moves + offset_words(v)),
        "channels.vectors": blocks * _more(v),
        "c.calls": 1,
        "c.groups": groups,
        "c.put": put,
        "c.put_lines": groups * v["taken_h"],
        "c.moves": put * ((g.in_c >= 128) + (g.in_c % 8 > 0)),
        **filled("c", 1, 8 * v["plane_bytes"]),
    }

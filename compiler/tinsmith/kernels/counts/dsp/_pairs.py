"""conv2d_pairs: blocks of two pixels × two channels, for each part of the channels."""

from __future__ import annotations

import numpy as np

from ....ir.dtypes import Array
from ...geometry import Geometry
from .._types import Counts, View, bounds, moved
from ._sizes import Windows, copies, known_copies, rounds


def pairs(g: Geometry, v: View) -> Counts:
    parts = -(-v["channel_pairs"] // v["part_pairs"])
    gathers = -(-g.pixels // 2)
    calls, stored = parts * gathers, parts * _stored(g, v)
    found = {
        **_block(calls, gathers * v["channel_pairs"], v),
        **_widened(calls * (g.kernel_h if v["feed"] == "rows" else 1), v),
        "c.calls": 1,
        f"c.gathers {v['feed']}": calls,
        "c.parts": parts if v["parts"] else 0,
        **known_copies("c.store", g.out_c, stored),
    }
    if v["parts"]:
        found |= {
            "expand.calls": parts,
            "expand.pairs": v["channel_pairs"],
            "expand.quads": v["channel_pairs"] * v["quads"],
        }
    if v["feed"] == "pixels":
        return found
    own = _rows(g, v) if v["feed"] == "rows" else _packed(g, v)
    return found | {name: parts * count for name, count in own.items()}


def _stored(g: Geometry, v: View) -> int:
    """Pixels that are copied to their place, for one part."""
    if not v["rows_bytes"]:
        return 0
    return 2 if v["direct_store"] else 2 * -(-g.pixels // 2)


def _block(calls: int, pairs: int, v: View) -> Counts:
    return {
        "block.calls": calls,
        "block.looped_calls": calls * (v["rounds"] > 1),
        "block.pairs": pairs,
        "block.quads": pairs * v["quads"],
        **rounds("block.", pairs, v["rounds"]),
        "block.moves": pairs * moved(v["quads"] * 16),
        "block.compared": pairs * 4 * bounds(v),
        "block.scaled": pairs * 4 * bool(v.get("scale_up")),
    }


def _widened(calls: int, v: View) -> Counts:
    eights = v["widened"] // 8
    turns = (eights + 7) // 8
    return {
        "widen.calls": calls,
        "widen.fours": calls * (v["widened"] % 8 > 0),
        "widen.eights": calls * eights,
        "widen.unaligned": calls * eights * (not v["aligned"]),
        **rounds("widen.", calls, turns),
    }


def _rows(g: Geometry, v: View) -> Counts:
    """Two pixels at a time; where one is at the border both find their lines one by one."""
    index = np.arange(2 * -(-g.pixels // 2)).clip(max=g.pixels - 1)
    windows = Windows.of(g).taken(index)
    edges: Array = windows.at_border.reshape(-1, 2).max(1)
    inner = len(edges) - int(edges.sum())
    return {
        "gather.calls rows": len(edges),
        "gather.tested": 0 if v["is_inner"] else len(edges),
        "gather.edges": len(edges) - inner,
        "gather.lines": inner * g.kernel_h,
        "gather.edge_lines": (len(edges) - inner) * g.kernel_h,
        **_runs(g, v, windows.taken(np.repeat(edges, 2))),
    }


def _packed(g: Geometry, v: View) -> Counts:
    """One pixel at a time, to be put together first."""
    windows = Windows.of(g)
    if g.pixels % 2:
        windows = windows.taken(np.append(np.arange(g.pixels), g.pixels - 1))
    edges = windows.taken(windows.at_border)
    lines = (len(windows.outside) - len(edges.outside)) * g.kernel_h
    run = v["run"]
    words = run if run < 4 else -(-run // 4)
    kept = float(((g.kernel_h - edges.outside) * ~edges.cut).sum())
    return {
        "gather.calls packed": -(-g.pixels // 2),
        "pack.calls": len(windows.outside),
        "pack.tested": 0 if v["is_inner"] else len(windows.outside),
        "pack.edges": len(edges.outside),
        "pack.edge_lines": len(edges.outside) * g.kernel_h,
        **({"pack.words": lines * words} if run <= 48 else copies("pack.line", run, lines)),
        **known_copies("pack.kept", run, kept),
        **_runs(g, v, edges),
    }


def _runs(g: Geometry, v: View, edges: Windows) -> Counts:
    """Lines of windows at the border: outside, cut, or as they lie."""
    inside = g.kernel_h - edges.outside
    outside = edges.before + edges.behind == g.kernel_w
    filled = float(np.where(outside, g.kernel_h, edges.outside).sum())
    cut = np.where(edges.cut & ~outside, inside, 0)
    width = g.kernel_w - edges.before - edges.behind
    fills = [copies("window_row.fill", n * g.in_c, cut) for n in (edges.before, edges.behind)]
    return {
        "window_row.calls": float(len(edges.outside) * g.kernel_h),
        **known_copies("window_row.filled", v["run"], filled),
        **{name: fills[0][name] + fills[1][name] for name in fills[0]},
        **copies("window_row.copy", width * g.in_c, cut),
    }

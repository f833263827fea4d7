"""conv2d_lines: every input line widened once; conv2d_resident: pixels that stay in registers."""

from __future__ import annotations

import numpy as np

from ...geometry import Geometry
from .._types import Counts, View, bounds, moved
from ._sizes import copies, known_copies, rounds


def lines(g: Geometry, v: View) -> Counts:
    row_words = v["phases"] * v["line_words"]
    pixels = [-(-(g.out_w - phase) // v["phases"]) for phase in range(v["phases"])]
    odd = sum(n % 2 for n in pixels)
    calls = g.out_h * (sum(n > 1 for n in pixels) + odd)
    kept = g.out_h - 1 if v["overlap"] else 0
    return {
        "block.calls": calls,
        **_block(g, v, g.out_h * sum(-(-n // 2) for n in pixels), row_words),
        **_filled(g, v),
        "c.calls": 1,
        "c.first_words": g.kernel_h * row_words,
        "c.rows": g.out_h,
        "c.blocks": calls,
        **known_copies("c.last", g.out_c, g.out_h * odd),
        **known_copies("c.keep", v["overlap"] * row_words * 4, kept),
    }


def _block(g: Geometry, v: View, pairs: int, row_words: int) -> Counts:
    """pairs: of pixels."""
    blocks = pairs * (g.out_c // 2)
    loads = [step[1].count("r") for step in v["steps"] if step[0] != "sum"]
    window = v["reach"] + v["step"]
    on, back = moved((row_words - window) * 4), moved(((g.kernel_h - 1) * row_words + window) * 4)
    ends = ((2 * v["phases"] - 1) * g.out_c, v["step"] * 8, v["stream_bytes"])
    return {
        "block.pairs": pairs,
        "block.blocks": blocks,
        "block.sums": blocks * g.kernel_h * (len(v["steps"]) - len(loads)),
        "block.loads": blocks * g.kernel_h * len(loads),
        "block.words": blocks * g.kernel_h * sum(loads),
        "block.moves": blocks * ((g.kernel_h - 1) * on + back) + pairs * sum(map(moved, ends)),
        "block.compared": blocks * 4 * bounds(v),
    }


def _filled(g: Geometry, v: View) -> Counts:
    """Lines of the input, and those outside, that every row of outputs is the first to need; as
    lines.j2 cuts them up."""
    first = np.where(np.arange(g.out_h) > 0, v["overlap"], 0)
    at = (np.arange(g.out_h) * g.stride_h - g.pad_top)[:, None] + np.arange(g.kernel_h)
    fresh = np.arange(g.kernel_h) >= first[:, None]
    inside = float((fresh & (at >= 0) & (at < g.in_h)).sum())
    outside = float(fresh.sum()) - inside
    size, pad = g.in_w * g.in_c, g.pad_left * g.in_c
    heads = [(pad + phase) % 2 for phase in range(v["phases"])]
    eights = [(size - head) // 8 for head in heads]
    body = next(n for n in (4, 3, 1) if all(e % n == 0 for e in eights))
    tails = sum(-(-(size - head - 8 * e) // 2) for head, e in zip(heads, eights, strict=True))
    return {
        "widen.calls": inside * sum(e > 0 for e in eights),
        f"widen.eights {bool(size % 4 or 1 in heads)}": inside * sum(eights),
        "widen.turns": inside * sum(eights) / body,
        "c.lines": inside,
        "c.heads": inside * sum(head and pad > phase for phase, head in enumerate(heads)),
        "c.tails": inside * tails,
        "c.outside": outside,
        "c.outside_words": outside * v["phases"] * v["line_words"],
    }


def resident(g: Geometry, v: View) -> Counts:
    pairs, odd = -(-v["pixels"] // 2), v["pixels"] % 2
    return {
        "block.calls": 1 + odd,
        f"block.pairs {g.in_c}": pairs,
        f"block.channels {g.in_c}": pairs * g.out_c,
        **rounds("block.", pairs, v["rounds"]),
        "block.compared": pairs * g.out_c * 2 * bounds(v),
        "c.calls": 1,
        "c.last": odd,
        **copies("c.store", g.out_c, odd),
    }

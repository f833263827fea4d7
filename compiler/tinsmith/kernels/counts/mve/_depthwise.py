"""depthwise, pixel by pixel, and depthwise_windows, over planes."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ....ir.graph import Node
from ...geometry import Geometry, conv_geometry
from .._types import Counts, View, bounds, moved, wide
from ._sizes import filled, gathered


def depthwise(node: Node, v: View) -> Counts:
    """Eight channels of a pixel at a time, those of the border through a patch."""
    g = conv_geometry(node)
    (top, bottom), (left, right) = g.inner_rows, g.inner_columns
    inner = (bottom - top) * (right - left)
    border, runs = g.pixels - inner, bottom - top if inner else 0
    column, row = g.dilation_w * g.in_c, g.dilation_h * g.in_w * g.in_c
    found: Counts = {"c.calls": 1, "c.rows": g.out_h, "c.runs": runs}
    if inner:
        found |= _run("inner", g, v, (runs, inner), (row, column, g.stride_w * g.in_c))
    if border:
        steps = (g.kernel_w * g.in_c, g.in_c, 0)
        found |= {"c.border": border, **_run("border", g, v, (border, border), steps)}
        found |= gathered(g, border=True)
    return found


def _run(
    name: str, g: Geometry, v: View, times: tuple[int, int], steps: tuple[int, int, int]
) -> Counts:
    """times: calls and pixels. steps: bytes from line to line, from tap to tap, from pixel to
    pixel."""
    (calls, pixels), eights, rest = times, g.in_c // 8, g.in_c % 8 > 0
    taps, each = g.kernel_h * g.kernel_w, pixels * (eights + rest)
    at = moves = 0
    for tap in (tap for group in v["groups"] for tap in group):
        want = tap // g.kernel_w * steps[0] + tap % g.kernel_w * steps[1]
        if want - at > 127:
            reaches = tap % g.kernel_w == 0 and g.kernel_w > 1 and steps[1] <= 127
            base = want + steps[1] if reaches else want
            moves, at = moves + moved(base - at), base
    return {
        f"{name}.calls": calls,
        f"{name}.pixels": pixels,
        f"{name}.full_pixels": pixels if eights else 0,
        f"{name}.eights": pixels * eights,
        f"{name}.rests": pixels * rest,
        f"{name}.taps": each * taps,
        f"{name}.groups": each * len(v["groups"]),
        f"{name}.vectors": each * 2 * (bounds(v) + (v["scale_up"] > 0)),
        f"{name}.moves": pixels * moved(steps[2])
        + each * (moves + moved(8 - at))
        + pixels * rest * taps,
    }


def windows(node: Node, v: View) -> Counts:
    """NAME_sum has eight channels of a band, NAME_fill puts its lines into planes."""
    g, p, bands = conv_geometry(node), v["p"], v["bands"]
    groups = -(-g.in_c // 8)
    return {
        "c.calls": 1,
        "c.groups": groups,
        "c.bands": groups * bands,
        **filled("c", 1, 8 * p["bytes"]),
        **_summed(v, v["w"], groups * bands, g.in_c * bands),
        **_filled_planes(p, groups, [min(n * v["band"], g.out_h - v["band"]) * g.stride_h
                                     - g.pad_top for n in range(bands)]),
    }  # fmt: skip


def _summed(v: View, w: View, calls: int, channels: int) -> Counts:
    """windows_channels.j2, with the blocks of windows_block.j2."""
    down, across = w["tiles"]
    blocks = channels * down * across
    ops, opening = Counter(op for op, *_ in w["ops"]), Counter(op for op, *_ in w["opening"])
    steps = sum(moved(op[1]) for op in w["ops"] if op[0] in ("walk", "turn"))
    two = 1 + bool(w["two"])
    moves = channels * sum(moved(op[1]) for op in w["opening"] if op[0] not in ("part", "image"))
    moves += blocks * (steps + wide(v["y_zero_point"]) + bool(w["masked"]))
    moves += channels * sum(map(moved, w["channel_step"]))
    moves += channels * down * (across > 1) * (1 + across)
    found: Counts = {
        "sum.calls": calls,
        "sum.zeros": calls * -(-w["image_bytes"] // 16),
        "sum.channels": channels,
        "sum.parts": channels * opening["part"],
        "sum.blocks": blocks,
        "sum.vectors": blocks * (ops["load"] + ops["image"] + ops["sum"])
        + blocks * (6 * two + 2 * bounds(v) + (two if v["scale_up"] else 0))
        + channels * (opening["image"] + opening["part"] * (w["image_bytes"] > 0)),
    }
    for label, times, tiles in (("column", channels * down, across), ("row", channels, down)):
        step, last = w[f"{label}_step"], w[f"last_{label}_step"]
        ragged = last != step and tiles > 1
        moves += times * tiles * sum(map(moved, step))
        moves += times * ragged * sum(moved(b - a) for a, b in zip(step, last, strict=True))
        found |= {
            f"sum.{label}s": times * tiles if tiles > 1 else 0,
            f"sum.ragged_{label}s": times * tiles if ragged else 0,
        }
    return found | {"sum.moves": moves}


def _filled_planes(p: Any, groups: int, firsts: list[int]) -> Counts:
    """windows_planes.j2, of bands that begin at these lines."""
    if not p["banded"]:
        lines, border = groups * p["taken_h"], 0
    else:
        inside = sum(0 <= first + n < p["in_h"] for first in firsts for n in range(p["lines"]))
        lines, border = groups * inside, groups * (len(firsts) * p["lines"] - inside)
    return {
        "fill.calls": groups * len(firsts),
        "fill.lines": lines,
        "fill.put": lines * p["taken_w"],
        "fill.rounds": lines * -(-p["taken_w"] // p["unroll"]),
        "fill.masked": lines * p["taken_w"] * p["some"],
        "fill.border": border,
        "fill.border_put": border * p["taken_w"],
    }

"""depthwise_planes: four channels at a time, a band of rows at a time."""

from __future__ import annotations

from ...geometry import Geometry
from .._types import Counts, View, bounds, moved
from ._sizes import rounds


def planes(g: Geometry, v: View) -> Counts:
    groups, bands = g.in_c // 4, v["bands"]
    lines, borders, border_lines, widens = _bands(g, v)
    kept = v["kept_rows"] * v["row_bytes"] // 4
    set_lines = 4 * (groups * border_lines + v["plane_bytes"] // v["row_bytes"])
    return {
        **_plane(g, v),
        **_widened(g, v, groups * lines),
        "widen.calls": groups * widens,
        "border.calls": groups * borders + 1,
        "border.lines": set_lines,
        "border.stores": set_lines * -(-v["row_bytes"] // 24),
        "border.words": set_lines * (v["row_bytes"] // 4),
        **(_kept(groups * (bands - 1), kept) if kept else {}),
        "c.widens": groups * widens * (bands > 1),
        "c.borders": groups * borders,
        "c.calls": 1,
        "c.groups": groups,
        "c.bands": groups * bands * (bands > 1),
    }


def _bands(g: Geometry, v: View) -> tuple[int, int, int, int]:
    """Of four channels: lines widened, fills with border, lines of these, calls that widen."""
    if v["bands"] == 1:
        return v["inside_rows"], 0, 0, 1
    at, kept = -g.pad_top, 0
    lines = borders = border_lines = widens = 0
    for oy in range(0, g.out_h, v["band"]):
        rows = min(v["band"], g.out_h - oy)
        needed = (rows - 1) * g.stride_h + g.kernel_h - kept
        before = min(needed, max(-at, 0))
        inside = max(min(needed - before, g.in_h - at - before), 0)
        lines += inside
        widens += inside > 0
        borders += (before > 0) + (needed > before + inside)
        border_lines += needed - inside
        at, kept = at + needed, v["kept_rows"]
    return lines, borders, border_lines, widens


def _plane(g: Geometry, v: View) -> Counts:
    """planes.j2, planes_streamed.j2."""
    rows, calls = g.in_c * g.out_h, g.in_c * v["bands"]
    whole = v["rounds"] * v["body"] + v["rest"]
    steps, outputs = whole + (v["last"] > 0), whole * v["full"] + v["last"]
    step_bytes = 4 if v["held"] else 4 * v["full"] // (1 if g.stride_w == 2 else 2)
    end = moved(g.stride_h * v["row_bytes"] - steps * step_bytes)
    found = {
        "plane.rows": rows,
        **rounds("plane.", rows, v["rounds"]),
        "plane.moves": rows * (end + steps * (g.in_c >= 256)),
        "plane.compared": rows * outputs * bounds(v),
    }
    if v["held"]:
        form = f"{g.stride_w}"
        return found | {
            f"plane.calls{form}": calls,
            f"plane.steps{form}": rows * whole,
            f"plane.last{form}": rows * (v["last"] > 0),
        }
    half = g.kernel_w // 2
    taps = 2 * half if g.stride_w == 1 else half + 1
    lines = rows * steps * g.kernel_h
    return found | {
        "plane.calls": calls,
        "plane.steps": rows * steps,
        "plane.outputs": rows * outputs,
        "plane.products": rows * outputs * g.kernel_h * (half + 1),
        "plane.double_loads": lines * (half // 2 + 1),
        "plane.single_loads": lines * (half % 2),
        "plane.tap_loads": lines * (1 + (taps > 4)),
        "plane.taps": lines * taps,
    }


def _widened(g: Geometry, v: View, lines: int) -> Counts:
    """planes_widen.j2."""
    odd = g.pad_left % 2
    quads, rest = divmod(g.in_w - odd, 4)
    words = (g.in_w + odd + 1) // 2
    return {
        "widen.lines": lines,
        "widen.quads": lines * quads,
        **rounds("widen.", lines, quads),
        "widen.twos": lines * (rest >= 2),
        "widen.ones": lines * (odd + rest % 2),
        "widen.moves": lines * 4 * moved(v["row_bytes"] - 4 * words),
    }


def _kept(calls: int, words: int) -> Counts:
    """planes_rows.j2: words of each channel that stay for the next band."""
    eights, rest = divmod(words, 8)
    return {
        "keep.calls": calls,
        "keep.eights": calls * eights,
        **rounds("keep.", calls, eights),
        "keep.rest": calls * (rest > 0),
        "keep.words": calls * rest,
    }

"""What the blocks of several kernels share: steps and constants, copies and fills, windows."""

from __future__ import annotations

from ...geometry import Geometry
from .._types import Counts, View, moved, wide


def offset_words(v: View) -> int:
    """Instructions of `epilogue.prepare`."""
    return wide(v["offset"] if v["uniform"] else v["y_zero_point"])


def merged(*parts: Counts) -> Counts:
    """Sums of what has the same name."""
    found: Counts = {}
    for part in parts:
        for name, count in part.items():
            found[name] = found.get(name, 0.0) + count
    return found


def copied(where: str, times: float, size: int) -> Counts:
    """ts_copy_s8 of a constant size: a few words or vectors, or turns of 16 bytes."""
    return _moved(f"{where}.copy", times, size)


def filled(where: str, times: float, size: int) -> Counts:
    """ts_fill_s8 of a constant size."""
    return _moved(f"{where}.fill", times, size)


def _moved(what: str, times: float, size: int) -> Counts:
    if size % 4 == 0 and size <= 8:
        return {f"{what}_words": times * (size // 4)}
    if size % 16 == 0 and size <= 64:
        return {f"{what}_vectors": times * (size // 16)}
    return {f"{what}_loops": times, f"{what}_turns": times * -(-size // 16)}


def gathered(g: Geometry, *, border: bool = False) -> Counts:
    """window.j2 for every output pixel, or those at the border alone: lines that are outside the
    input, whole ones, and those of windows that cross its border to the left or right."""
    (top, bottom), (left, right) = g.inner_rows, g.inner_columns
    inner = (bottom - top) * (right - left) if border else 0
    pixels, line = g.pixels - inner, g.kernel_w * g.in_c
    if g.is_inner and g.dilation_w == 1:
        lines = pixels * g.kernel_h
        plain = {"window.plain": pixels, "window.plain_lines": lines}
        return plain | copied("window", lines, line)
    tops = [oy * g.stride_h - g.pad_top for oy in range(g.out_h)]
    lefts = [ox * g.stride_w - g.pad_left for ox in range(g.out_w)]
    inside = sum(0 <= t + ky * g.dilation_h < g.in_h for t in tops for ky in range(g.kernel_h))
    steps = [kx * g.dilation_w for kx in range(g.kernel_w)]
    taken = [sum(0 <= at + step < g.in_w for step in steps) for at in lefts]
    if g.dilation_w > 1:
        taps = pixels * g.kernel_h * g.kernel_w
        read = inside * sum(taken) - inner * g.kernel_h * g.kernel_w
        spread: Counts = {"window.spread": pixels, "window.spread_lines": pixels * g.kernel_h}
        copies = copied("window", read, g.in_c) | filled("window", taps - read, g.in_c)
        return spread | {"window.taps": taps} | copies
    broken = [count * g.in_c for count in taken if count < g.kernel_w]
    outside = (g.out_h * g.kernel_h - inside) * (g.out_w - len(broken))
    crossing, turns = g.out_h * g.kernel_h * len(broken), -(-line // 16)
    whole = pixels * g.kernel_h - outside - crossing
    few = line in (16, 32, 48, 64)
    step = moved(g.dilation_h * g.in_w * g.in_c) + moved(line)
    strided = (g.stride_h > 1) + (g.stride_w > 1)
    read_turns = inside * sum(-(-size // 16) for size in broken)
    return {
        "window.calls": pixels,
        "window.lines": pixels * g.kernel_h,
        "window.whole": 0 if few else whole,
        "window.vectors": whole * turns if few else 0,
        "window.turns": (0 if few else whole * turns) + read_turns,
        "window.outside": outside,
        "window.crossing": crossing,
        "window.crossing_read": inside * len(broken),
        "window.fill_turns": (outside + crossing) * turns,
        "window.moves": pixels
        * (2 * strided + moved(g.pad_top) + moved(g.pad_left) + g.kernel_h * step),
    }

"""Pools, whose windows are unrolled where they are small and whole, and means."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ....ir.graph import Node
from ....ops._pool import taps_inside
from .._types import Counts, View, bounds, moved

_REACH = 127  # of a load's offset


def pool(node: Node, v: View) -> Counts:
    """Groups of 8 or 16 channels of each window, tap by tap."""
    inside = taps_inside(node)
    read, size = np.outer(*inside), v["kernel_h"] * v["kernel_w"]
    whole = (read == size) & bool(v["offsets"])
    lines = np.where(read > 0, inside[0][:, None], 0)
    batch, cut = v["batch"], node.y.shape[3] % v["lanes"] > 0
    groups = -(-node.y.shape[3] // v["lanes"])
    unrolled, looped = batch * groups * whole.sum(), batch * groups * (~whole).sum()
    looped_taps = batch * groups * read[~whole].sum()
    kind = f"{min(groups, 3)}{'cut' * cut}"  # what the compiler makes of their loop
    at_once = v.get("at_once", 0)
    found = {
        "call": 1,
        "rows": batch * v["out_h"],
        "windows": batch * read.size,
        "tested": batch * read.size * bool(v["inside"] and v["offsets"]),
        "looped_windows": batch * (~whole).sum(),
        f"looped_groups{kind}": looped,
        "looped_lines": batch * groups * lines[~whole].sum(),
        "looped_taps": looped_taps,
    }
    if at_once:
        turns, windows = v["turns"], batch * whole.sum()
        found |= {
            "groups": unrolled,
            "taps": unrolled * size,
            "moves": windows * turns * _moves(v["offsets"], 16 * at_once, 16 * (at_once - 1))
            + windows * cut * (size + 2),
            "turns": windows * turns if turns > 1 else 0,
            "vectors": (unrolled + windows * turns) * bounds(v),
            "looped_vectors": looped * bounds(v),
            "looped_cut_taps": looped_taps * cut,
        }
    else:
        found |= {
            f"groups{kind}": unrolled,
            "plain_taps": unrolled * size,
            "moves": unrolled * _moves(v["offsets"])
            + looped_taps * (v["dilation_w"] * v["in_c"] > _REACH),
            "cut_taps": (unrolled * size + looped_taps) * cut,
            "vectors": (unrolled + looped) * bounds(v),
        }
    if node.op.name == "average_pool":
        found["divided"] = batch * read.size * bool(v["by_divisor"])
    return {name: float(count) for name, count in found.items()}


def _moves(offsets: Sequence[int], end: int = 0, beyond: int = 0) -> int:
    """Instructions that bring the pointer into reach of the taps, and of what lies `beyond` each of
    them; then to `end`."""
    at = found = 0
    for offset in offsets:
        if offset - at + beyond > _REACH:
            found, at = found + moved(offset - at), offset
    return found + (moved(end - at) if end else 0)


def reduce_mean(node: Node, v: View) -> Counts:
    """Eight channels of all pixels, 256 of them at a time, and their rescaling."""
    del node
    groups, pixels, cut = -(-v["channels"] // 8), v["pixels"], v["channels"] % 8 > 0
    many = pixels > 256
    return {
        "call": 1,
        "groups": groups,
        "cut_groups": groups * cut,
        "pixels": groups * pixels,
        "cut_pixels": groups * pixels * cut,
        "far_pixels": groups * pixels if v["channels"] > _REACH else 0,
        "many": groups if many else 0,
        "parts": groups * -(-pixels // 256) if many else 0,
        "vectors": groups * bounds(v),
        "scaled_groups": groups if v["up"] else 0,
    }

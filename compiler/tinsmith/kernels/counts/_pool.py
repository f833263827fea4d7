"""How often the parts of the DSP extension's pools and means run; see `counts`."""

from __future__ import annotations

import numpy as np

from ...ir.graph import Node
from ...ops._pool import taps_inside
from ._types import Counts, View, bounds


def pool(node: Node, v: View) -> Counts:
    """Runs of windows that are whole, and windows that the border clips; four channels a group."""
    groups, batch = node.y.shape[3] / 4, v["batch"]
    (top, bottom), (left, right) = v["whole_h"], v["whole_w"]
    rows = batch * (bottom - top if v["form"] else 0)
    whole = rows * (right - left)
    inside = taps_inside(node)
    tap_count = np.outer(*inside)
    lines = np.where(tap_count > 0, inside[0][:, None], 0)
    clipped = np.ones(tap_count.shape, bool)
    if v["form"]:
        clipped[top:bottom, left:right] = False
    low, high = v["q_min"] > -128, v["q_max"] < 127
    form, size = v["form"], v["kernel_h"] * v["kernel_w"]
    found: Counts = {
        "rows": batch * v["out_h"],
        "runs": rows,
        "whole": whole,
        "clipped": batch * clipped.sum(),
        "clipped_groups": batch * clipped.sum() * groups,
        "clipped_lines": batch * lines[clipped].sum() * groups,
        "clipped_taps": batch * tap_count[clipped].sum() * groups,
        "clipped_low": batch * clipped.sum() * groups * low,
        "clipped_high": batch * clipped.sum() * groups * high,
    }
    if form and whole:
        found |= {
            f"groups {form}": whole * groups,
            f"group_low_{form}": whole * groups * low,
            "group_high": whole * groups * high,
            f"group_lines_{form}": whole * groups * v["kernel_h"],
            f"group_taps_{form}": whole * groups * size,
        }
    if node.op.name == "average_pool" and clipped.any():
        kind = "padded" if v["count_include_pad"] else "inside"
        found[f"divided {kind}"] = found["clipped"] if v["by_divisor"] else 0
    return {name: float(count) for name, count in found.items()}


def mean(node: Node, v: View) -> Counts:
    """Groups of four channels, and the words of their pixels."""
    groups = v["channels"] / 4
    return {
        "groups": groups,
        "words": groups * v["pixels"],
        "rounds": groups * (v["rounds"] if v["rounds"] > 1 else 0),
        "rests": groups * (v["rounds"] == 1 and v["rest"] > 0),
        "looped": groups * (v["rounds"] > 1),
        "bound": 4 * groups * bounds(v),
    }

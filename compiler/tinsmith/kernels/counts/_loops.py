"""How often the parts of portable kernels that compute run; see `counts`.

What the compiler makes of a loop depends on its form, so forms have counts of their own.
"""

from __future__ import annotations

import math

import numpy as np

from ...ir.graph import Node
from ...ops._pool import taps_inside
from ._types import Counts, View, bounds


def elementwise(node: Node, v: View) -> Counts:
    """Nests of loops over operands that may be broadcast; form: what the innermost one steps."""
    sizes = [count for _, count in v["loops"]]
    inner = v["loops"][-1][0]
    steps = "".join("s" if inner in operand else "c" for operand in v["operands"])
    starts = [math.prod(sizes[: i + 1]) for i in range(len(sizes) - 1)]
    if "multiplier" in v:  # what is added to round is in the lower word, the upper one, or both
        steps += f" {v['narrow']} {min(max(31 - v['shift'], 31), 33)}"
    found: Counts = {
        f"elements {steps}": node.y.elements,
        "bound": node.y.elements * (bounds(v) > 0),
    }
    return found | {f"loops{i} {steps}": n for i, n in enumerate(reversed(starts))}


def softmax(node: Node, v: View) -> Counts:
    """Rows, whose elements are walked three times."""
    form = " narrow" if v["narrow"] else " wide"
    rows = node.y.elements // v["length"]
    form += " one" if rows == 1 else " many" if v["length"] > 2 else " pairs"
    return {"rows" + form: rows, "elements" + form: node.y.elements}


def matmul(node: Node, v: View) -> Counts:
    outputs = node.y.elements
    form = f" {v['narrow']} {min(max(31 - v['shift'], 31), 33)}"
    return {
        "products": outputs * v["depth"],
        "sums" + form: outputs,
        "rows": outputs // v["columns"],
        "batches": outputs // (v["columns"] * v["rows"]),
    }


def mean(node: Node, v: View) -> Counts:
    """Sums of eight elements a step."""
    size, _ = v["inner"][-1]
    sums = node.y.elements * math.prod(s for s, _ in v["inner"][:-1])
    looped = size // 8 > 1
    return {
        "means": node.y.elements,
        "rows": math.prod(s for s, _ in v["outer"][:-1]),
        "nested": node.y.elements if len(v["inner"]) > 1 else 0,
        "sums": sums if len(v["inner"]) > 1 else 0,
        "looped": sums * looped,
        "eights": sums * (size // 8),
        "rest": sums * (size % 8),
        "bound": node.y.elements * bounds(v),
    }


def pool(node: Node, v: View) -> Counts:
    """Windows that are whole, with taps written out, and those whose taps are looped over."""
    inside = taps_inside(node)
    tap_count = np.outer(*inside)
    line_count = np.where(tap_count > 0, inside[0][:, None], 0)
    size = v["kernel_h"] * v["kernel_w"]
    unrolled = (tap_count == size) if v["offsets"] else np.zeros(tap_count.shape, bool)
    batch, channels = v["batch"], node.y.shape[3]
    looped = ~unrolled
    form = f" {bool(v['inside'])} {v.get('by_divisor', '')}"
    found = {
        "rows": batch * v["out_h"],
        "whole" + form: batch * unrolled.sum(),
        "whole_channels" + form: batch * channels * unrolled.sum(),
        "whole_taps": batch * channels * size * unrolled.sum(),
        "looped" + form: batch * looped.sum(),
        "looped_channels" + form: batch * channels * looped.sum(),
        "looped_lines": batch * channels * line_count[looped].sum(),
        "looped_taps": batch * channels * tap_count[looped].sum(),
        "bound": batch * channels * tap_count.size * bounds(v),
    }
    return {name: float(n) for name, n in found.items()}


def dense(node: Node, v: View) -> Counts:
    """One dot product after the other."""
    return {
        "products": node.y.elements * v["depth"],
        "sums": node.y.elements,
        "rows": v["rows"],
        "bound": node.y.elements * bounds(v),
    }

"""How often the parts of portable kernels that only copy run; see `counts`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from ...ir.graph import Node
from ._types import Counts, View

_REACH = 4095  # of a load
_SHORT = 48  # bytes that are copied without a loop


def _lengths(name: str, found: Iterable[tuple[float, int]]) -> Counts:
    """Of copies or fills: (how often, bytes) of each."""
    counts: Counter[str] = Counter()
    for times, size in found:
        if 0 < size <= _SHORT:
            parts = {"word": size // 4, "half": size // 2 % 2, "byte": size % 2}
            counts.update({f"{name}_{part}": times * n for part, n in parts.items()})
        elif size:
            parts = {
                "long": 1,
                "16": size // 16,
                "4": size % 16 // 4,
                "1": size % 4,
                "any_4": size % 16 >= 4,
                "any_1": size % 4 > 0,
            }
            counts.update({f"{name}_long_{part}": times * n for part, n in parts.items()})
    return {key: float(n) for key, n in counts.items()}


def concat(node: Node, v: View) -> Counts:
    """Rows, each with a part of every input."""
    rows = v["rows"]
    parts = _lengths("copy", [(rows, size) for _, size, _ in v["parts"]])
    return {"rows": rows * (rows > 1), "parts": rows * len(v["parts"]), **parts}


def split(node: Node, v: View) -> Counts:
    rows = v["rows"]
    parts = _lengths("copy", [(rows, size) for _, size in v["parts"]])
    return {"rows": rows * (rows > 1), "parts": rows * len(v["parts"]), **parts}


def strided(node: Node, v: View) -> Counts:
    """Slices and transpositions: elements four at a time, or runs of them."""
    sizes = [size for size, _ in v["loops"]]
    if v["run"] > 1 or not sizes:
        return _nest(sizes) | _lengths("copy", [(math.prod(sizes), v["run"])])
    *outer, (size, stride) = v["loops"]
    times = math.prod(sizes[:-1])
    far = "_far" if 3 * abs(stride) > _REACH else "_near"
    return _nest([n for n, _ in outer]) | {
        "fours" + far: float(times * (size // 4)),
        "left" + far: float(times * (size % 4)),
        "looped": float(times * (size >= 4)),
    }


def _nest(sizes: list[int]) -> Counts:
    """How often the loops of a nest run, the innermost first."""
    runs = [math.prod(sizes[: i + 1]) for i in range(len(sizes))]
    return {f"loop{i}": float(n) for i, n in enumerate(reversed(runs))}


def pad(node: Node, v: View) -> Counts:
    """Rows of the padded axes: filled, or copied between what is filled."""
    *outer, (size, before, after, _) = v["axes"]
    rows = math.prod(s + b + a for s, b, a, _ in outer)
    whole = math.prod(s for s, *_ in outer)
    run = v["run"]
    form = " constant" if v["mode"] == "constant" else " edge"
    if v["mode"] != "constant":
        each = rows * (before + size + after)
        copies = _lengths("copy", [(each, run)]) if run > 1 else {}
        return {"rows" + form: rows, f"pixels{form} {run > 1}": each, **copies}
    empty = rows - whole
    fills = [(whole, before * run), (whole, after * run), (empty, (before + size + after) * run)]
    return {
        "rows" + form: rows,
        "whole" + form: whole,
        **_lengths("fill", fills),
        **_lengths("copy", [(whole, size * run)]),
    }


def resize(node: Node, v: View) -> Counts:
    """Pixels, repeated along rows; then rows."""
    pixels, channels = v["rows"] * v["in_w"], v["channels"]
    copies = [(v["rows"] * (v["scale_h"] - 1), v["out_row"])]
    if channels > 1:
        copies.append((pixels * v["scale_w"], channels))
    return {
        "rows": v["rows"],
        f"pixels {channels > 1}": pixels,
        "single": pixels * v["scale_w"] * (channels == 1),
        **_lengths("copy", copies),
    }


def lookup(node: Node, v: View) -> Counts:
    return {"fours": v["elements"] // 4, "left": v["elements"] % 4}

"""Where two sides part, as a picture: signal to error of every layer, in the order of execution."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ..figures import drawn
from ..plan.model import short_name
from .difference import Difference

PICTURES = ("diff.svg", "diff.png")
_EXACT, _BAD, _GOOD = "#8fb8de", "#c2553d", 25.0


def draw_difference(result: Difference, folder: Path) -> list[Path]:
    """diff.svg and diff.png in `folder`; the same result gives the same bytes."""
    made = [folder / name for name in PICTURES]
    width = min(40.0, max(8.0, 2.5 + 0.3 * len(result.layers)))
    with drawn((width, 5.0), *made) as figure:
        _draw(figure.add_subplot(), result)
    return made


def _draw(axes: Any, result: Difference) -> None:
    finite = [x.sqnr_db for x in result.layers if math.isfinite(x.sqnr_db)]
    top = max(finite, default=60.0) * 1.1 + 5.0
    steps = range(len(result.layers))
    shown = [max(-5.0, min(x.sqnr_db, top)) for x in result.layers]
    colours = [
        _EXACT if x.differing == 0 else _BAD if x.sqnr_db < _GOOD else "#b8ccb0"
        for x in result.layers
    ]
    axes.bar(steps, shown, color=colours, edgecolor="white", linewidth=0.4)
    for step, layer in zip(steps, result.layers, strict=True):
        text = "=" if layer.differing == 0 else f"{layer.sqnr_db:.0f}"
        axes.text(step, max(shown[step], 0), text, ha="center", va="bottom", fontsize=6)
    axes.axhline(_GOOD, color="#404040", linewidth=0.6, linestyle=":")
    names = [f"{i} {short_name(x.node, 24)}" for i, x in enumerate(result.layers)]
    axes.set_xticks(list(steps), names, rotation=90)
    axes.set_ylabel("signal to error, dB (=: no difference)")
    title = f"{result.b} against {result.a}, {result.samples} samples"
    axes.set_title(title, loc="left")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)

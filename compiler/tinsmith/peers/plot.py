"""A picture of a comparison: how many times as long the others take."""

from __future__ import annotations

from pathlib import Path

from ..figures import drawn
from .compare import Comparison

_OURS, _THEIRS = "#d2691e", "#9a9a9a"


def draw(comparison: Comparison, path: Path) -> None:
    """Bars of time over ours, with their 95 % intervals; one panel per number of threads."""
    runs = [run for run in comparison.runs if run.ours.seconds is not None]
    if not runs:
        return
    rows = [[r for r in run.rows if r.seconds is not None] for run in runs]
    height = 0.9 + 0.38 * max(len(r) for r in rows)
    with drawn((4.6 * len(runs), height), path) as figure:
        panels = figure.subplots(1, len(runs), squeeze=False)
        for axis, run, measured in zip(panels[0], runs, rows, strict=True):
            for place, row in enumerate(measured):
                slower = row.slower
                value = slower.median if slower else 1.0
                error = [[value - slower.low], [slower.high - value]] if slower else None
                axis.barh(place, value, 0.6, xerr=error, color=_THEIRS if slower else _OURS)
                axis.text(value, place, f"  {value:.2f}×", va="center", fontsize=8)
            axis.set_yticks(range(len(measured)), [r.label for r in measured], fontsize=8)
            axis.invert_yaxis()
            axis.margins(x=0.18)
            axis.axvline(1.0, color=_OURS, linewidth=0.8)
            word = "thread" if run.threads == 1 else "threads"
            axis.set_title(f"{comparison.model}, {run.threads} {word}", fontsize=9)
            axis.set_xlabel("time of one inference, ours = 1", fontsize=8)
            axis.spines[["top", "right"]].set_visible(False)
        figure.tight_layout()

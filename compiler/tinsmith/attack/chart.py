"""The report of the attacks as a picture: accuracy over what it cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..figures import drawn
from .suite import Report

_FREE = 0.5  # where attacks without labels or queries stand on the logarithmic axis
_COLOURS = ("#8a3b12", "#c97a1e", "#3f6f9f", "#5f8a4a", "#7b5ea7", "#888888")
_MARKS = "osD^vP"


def draw_attacks(report: Report, path: Path) -> None:
    """Write an .svg or .png file; the same report gives the same bytes."""
    with drawn((6.4, 4.0), path) as figure:
        axes: Any = figure.add_subplot()
        axes.axhline(report.victim, color="black", linewidth=0.8, label="authorised")
        axes.axhline(report.chance, color="black", linewidth=0.8, linestyle=":", label="chance")
        names = list(dict.fromkeys(o.attack for o in report.outcomes))
        for i, name in enumerate(names):
            rows = [o for o in report.outcomes if o.attack == name]
            axes.errorbar(
                [o.samples or _FREE for o in rows],
                [o.mean for o in rows],
                [o.spread for o in rows],
                color=_COLOURS[i % len(_COLOURS)],
                marker=_MARKS[i % len(_MARKS)],
                linestyle="-" if rows[0].samples else "",
                markersize=4,
                linewidth=1,
                capsize=2,
                label=name,
            )
        axes.set_xscale("log")
        axes.set_ylim(0, 1)
        axes.set_xlabel("labelled samples, or queries of the gateway")
        axes.set_ylabel("accuracy of the attacker's network")
        axes.set_title(f"{report.model}, {report.mode}, {report.seeds} seeds", loc="left")
        axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)

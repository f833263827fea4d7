"""The arena as a picture: time across, offsets up, a rectangle per buffer."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from ..errors import CompileError
from ..figures import FORMATS, drawn
from .model import MemoryPlan, Placed, bound_line, short_name
from .report import arena_map

_NAME = 24  # characters of a name
_INPUT, _OUTPUT, _SCRATCH = "#8fb8de", "#9fd0a0", "#d9d9d9"
_COLOURS = ("#f2c894", "#e8a598", "#c9b3dc", "#b8ccb0", "#efe0a1", "#b0cfd3")


def write_timeline(
    plan: MemoryPlan, *paths: Path, budget: int | None = None, title: str = ""
) -> None:
    """Write the plan to every path, .svg or .png files. The same plan gives the same bytes.

    Scratch is hatched, so is what an output shares with its dying input. Lines: the arena, the
    lower bound, the budget in bytes if there is one. Raises CompileError for another kind of file.
    """
    for path in paths:
        if path.suffix not in FORMATS:
            raise CompileError(
                f"cannot draw the arena into {path.name!r}",
                expected="a name ending in .svg or .png",
            )
    with drawn((_inches(len(plan.order)), 6.0), *paths) as figure:
        axes: Any = figure.add_subplot()
        _draw(axes, plan, budget)
        axes.set_title(_title(plan, title), loc="left")


def _title(plan: MemoryPlan, title: str) -> str:
    line = f"{title}: {plan.summary()}" if title else plan.summary()
    if plan.bound_counts:
        line += "\n" + bound_line(plan.strategy, plan.bound_counts, plan.gap)
    return line


def draw_arena(
    folder: Path, plan: MemoryPlan, *, budget: int | None, title: str, stem: str = "arena"
) -> None:
    """Write `stem`.svg, `stem`.png and, as text, `stem`.txt into `folder`."""
    paths = (folder / f"{stem}.svg", folder / f"{stem}.png")
    write_timeline(plan, *paths, budget=budget, title=title)
    (folder / f"{stem}.txt").write_text(arena_map(plan) + "\n")


def _draw(axes: Any, plan: MemoryPlan, budget: int | None) -> None:
    from matplotlib.ticker import StrMethodFormatter

    steps = len(plan.order)
    top = max(plan.arena_bytes, 1)
    if budget is not None and budget <= 2 * top:  # a far budget would flatten the picture
        top = max(top, budget)
    for number, p in enumerate(sorted(plan.placed, key=lambda p: (p.buffer.first, p.offset))):
        _rectangle(axes, p, _colour(p, number))
        _label(axes, p, steps, top)
    for a, b in itertools.combinations(plan.placed, 2):
        low, high = max(a.offset, b.offset), min(a.end, b.end)
        if low < high and a.buffer.meets(b.buffer):
            first = max(a.buffer.first, b.buffer.first)
            last = min(a.buffer.last, b.buffer.last)
            _patch(axes, (first, low), (last - first + 1, high - low), fill=False, hatch="xxx")
    lines = [
        (plan.arena_bytes, f"arena {plan.arena_bytes:,} B", {"color": "black"}),
        (
            plan.lower_bound_bytes,
            f"lower bound {plan.lower_bound_bytes:,} B",
            {"color": "tab:blue", "linestyle": "--"},
        ),
    ]
    if budget is not None:
        above = "" if budget <= top else ", above this picture"
        look = {"color": "tab:red", "linestyle": "-."}
        lines.append((budget, f"budget {budget:,} B{above}", look))
    for height, label, look in lines:
        axes.axhline(height, label=label, linewidth=1.2, **look)
    axes.set_xlim(-1, steps + 1)
    axes.set_ylim(0, top * 1.04)
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_ylabel("offset in the arena, bytes")
    names = [
        "inputs",
        *(f"{i} {short_name(n, _NAME)}" for i, n in enumerate(plan.order)),
        "outputs",
    ]
    axes.set_xticks([i + 0.5 for i in range(-1, steps + 1)], names, rotation=90)
    handles = [*axes.get_legend_handles_labels()[0], *_key()]
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _key() -> list[Any]:
    from matplotlib.patches import Patch

    return [
        Patch(facecolor=_INPUT, label="graph input"),
        Patch(facecolor=_OUTPUT, label="graph output"),
        Patch(facecolor=_SCRATCH, hatch="////", label="scratch"),
        Patch(facecolor="white", hatch="xxx", label="output over dying input"),
    ]


def _colour(placed: Placed, number: int) -> str:
    buffer = placed.buffer
    if buffer.is_scratch:
        return _SCRATCH
    if buffer.is_input:
        return _INPUT
    return _OUTPUT if buffer.is_output else _COLOURS[number % len(_COLOURS)]


def _rectangle(axes: Any, p: Placed, colour: str) -> None:
    hatch = "////" if p.buffer.is_scratch else None
    size = (p.buffer.last - p.buffer.first + 1, p.buffer.bytes)
    _patch(axes, (p.buffer.first, p.offset), size, facecolor=colour, alpha=0.85, hatch=hatch)


def _patch(axes: Any, at: tuple[int, int], size: tuple[int, int], **look: Any) -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle(at, *size, edgecolor="#404040", linewidth=0.6, **look))


def _label(axes: Any, p: Placed, steps: int, top: int) -> None:
    """Name and bytes on the rectangle: across where it is wide, else upwards in its first step.

    A later output may cover the other steps of an input, so the first is the one to write in.
    """
    span, tall = p.buffer.last - p.buffer.first + 1, p.buffer.bytes / top
    text = f"{short_name(p.buffer.name, _NAME)} {p.buffer.bytes:,}"
    middle = p.offset + p.buffer.bytes / 2
    fits_across = tall > 0.03 and span * _inches(steps) * 0.85 / (steps + 2) > 0.05 * len(text)
    fits_upwards = tall > 0.0115 * len(text)
    look: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 6}
    look["bbox"] = {"facecolor": "white", "alpha": 0.6, "linewidth": 0, "pad": 0.6}
    if fits_across and (span > 3 or not fits_upwards):
        axes.text(p.buffer.first + span / 2, middle, text, **look)
    elif fits_upwards:
        axes.text(p.buffer.first + 0.5, middle, text, rotation=90, **look)


def _inches(steps: int) -> float:
    """Width of the figure."""
    return min(40.0, max(8.0, 2.5 + 0.3 * steps))

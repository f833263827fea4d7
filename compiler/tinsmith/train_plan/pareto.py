"""The schemes that no other beats in gain, bytes and instructions at once; and their picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..figures import drawn
from .candidates import Candidate
from .costs import Cost


@dataclass(frozen=True)
class Point:
    """A candidate with what it costs. predicted: the sum of its parts' gains, a
    fraction; not a number where a part was not measured.

    gain, error: as measured in one fine-tune, with its standard error; None: it was not.
    """

    candidate: Candidate
    cost: Cost
    predicted: float
    gain: float | None = None
    error: float | None = None


def front(points: Iterable[Point]) -> list[Point]:
    """By bytes, ascending. Of equals the first stays."""
    kept: list[Point] = []
    for point in sorted(
        points, key=lambda p: (p.cost.ram_bytes, p.cost.instructions, -p.predicted)
    ):
        if not any(_beats(other, point) for other in kept):
            kept.append(point)
    return kept


def _beats(a: Point, b: Point) -> bool:
    """At least as good in everything. b is not smaller than a."""
    return (
        a.cost.ram_bytes <= b.cost.ram_bytes
        and a.cost.instructions <= b.cost.instructions
        and a.predicted >= b.predicted
    )


def draw(
    path: Path,
    points: Sequence[Point],
    baselines: Sequence[tuple[str, int, float]],
    budget: int,
    title: str,
) -> None:
    """A .png of gain over RAM. baselines: (name, bytes, measured gain). budget: bytes.

    Dots and squares: predicted and measured gains of the points; colour: instructions.
    """
    with drawn((7.5, 4.5), path) as figure:
        axes: Any = figure.add_subplot()
        ram = [p.cost.ram_bytes / 1000 for p in points]
        predicted = [100 * p.predicted for p in points]
        axes.plot(ram, predicted, ".", color="#a0a0a0", label="sum of contributions")
        measured = [p for p in points if p.gain is not None]
        dots = axes.scatter(
            [p.cost.ram_bytes / 1000 for p in measured],
            [100 * (p.gain or 0.0) for p in measured],
            c=[p.cost.instructions / 1e6 for p in measured],
            marker="s",
            label="measured",
            zorder=3,
        )
        if measured:
            figure.colorbar(dots, label="million instructions a step, estimated")
        for name, bytes_, gain in baselines:
            axes.plot(bytes_ / 1000, 100 * gain, "x", color="tab:red")
            axes.annotate(name, (bytes_ / 1000, 100 * gain), xytext=(4, 3), **_OFFSET)
        axes.axvline(budget / 1000, color="tab:red", linestyle="-.", linewidth=1, label="budget")
        axes.set_xlabel("RAM, kB: arena, state, stack")
        axes.set_ylabel("accuracy gained over the classifier alone, points")
        axes.set_title(title, loc="left")
        axes.legend(frameon=False)


_OFFSET: dict[str, Any] = {"textcoords": "offset points", "fontsize": 7}

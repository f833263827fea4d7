"""Where the time of an inference goes: per node, and inside a node per C function."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..figures import drawn
from ..ir.graph import Node
from ..plan.model import short_name
from ..toolchain.compile_c import build
from . import bench
from .histogram import Executed, executed
from .latency import has_clock
from .over_serial import port_of
from .project import Project, open_project
from .protocol import Sample

PICTURES = ("profile.svg", "profile.png")
_COLOURS = ("#e8a598", "#f2c894", "#efe0a1", "#b8ccb0", "#b0cfd3", "#8fb8de", "#c9b3dc")
_NARROW = 0.012  # share of the picture below which a rectangle has no name


@dataclass(frozen=True)
class LayerProfile:
    """What one node costs. On an emulated board instructions, with cycles an estimate from them
    (None without prices of the core); on a physical board at a port the cycles it took, alone; on
    this machine's own kind the median microseconds.

    functions: by C function, (instructions, cycles).
    """

    node: Node
    instructions: int | None = None
    cycles: float | None = None
    microseconds: float | None = None
    functions: Mapping[str, tuple[int, float | None]] = field(default_factory=dict[str, Any])

    @property
    def cost(self) -> float:
        """What there is, best first: cycles, instructions, microseconds."""
        return self.cycles or self.instructions or self.microseconds or 0.0


def profile_layers(folder: str | Path) -> list[LayerProfile]:
    """Of every node, in order, on the embedded sample; builds with a trace.

    Of a protected project the nodes of the non-secure image, without functions, as the code of the
    secure world is not in it; what that executes for them is counted too. Over a serial port only
    what the board itself counts, no functions.
    Raises CompileError on a board that measures neither here.
    """
    project = open_project(folder)
    if project.protected or port_of(project.elf(), project.board) is not None:
        return [LayerProfile(p.node, p.instructions, p.cycles) for p in bench.profile(folder)]
    if has_clock(project):
        return [LayerProfile(p.node, microseconds=p.microseconds) for p in bench.profile(folder)]
    sample = Sample(tuple(a[0] for a in bench.embedded_sample(project)))
    build(project.folder, project.board, trace=True)
    return _layers(project, executed(project, project.elf(trace=True), sample))


def _layers(project: Project, found: Sequence[Executed]) -> list[LayerProfile]:
    return [
        LayerProfile(node, e.instructions, e.cycles, functions=e.functions)
        for node, e in zip(project.graph.nodes, found, strict=True)
    ]


def draw_profile(layers: Sequence[LayerProfile], folder: Path, title: str) -> list[Path]:
    """profile.svg and profile.png: nodes from left to right, as wide as they cost; above each the
    functions that it ran. The same profile gives the same bytes."""
    made = [folder / name for name in PICTURES]
    with drawn((14.0, 5.0), *made, font=7.0) as figure:
        axes: Any = figure.add_subplot()
        _draw(axes, layers)
        axes.set_title(title, loc="left")
    return made


def unit(layers: Sequence[LayerProfile]) -> str:
    """What `cost` counts."""
    if any(layer.microseconds is not None for layer in layers):
        return "µs"
    if not any(layer.cycles for layer in layers):
        return "instructions"
    return "cycles" if measured_cycles(layers) else "estimated cycles"


def measured_cycles(layers: Sequence[LayerProfile]) -> bool:
    """Whether the cycles are what a core took, and no estimate."""
    return all(layer.instructions is None for layer in layers)


def _draw(axes: Any, layers: Sequence[LayerProfile]) -> None:
    from matplotlib.ticker import StrMethodFormatter

    total = sum(layer.cost for layer in layers) or 1.0
    kinds = list(dict.fromkeys(_kind(layer) for layer in layers))
    left = 0.0
    for layer in layers:
        colour = _COLOURS[kinds.index(_kind(layer)) % len(_COLOURS)]
        name = f"{layer.node.op.name} {short_name(layer.node.name, 26)}"
        _box(axes, left, 0, layer.cost, total, name, colour)
        start = left
        for name, (instructions, cycles) in sorted(
            layer.functions.items(), key=lambda item: -(item[1][1] or item[1][0])
        ):
            cost = cycles if cycles is not None else float(instructions)
            _box(axes, start, 1, cost, total, short_name(name, 40), colour)
            start += cost
        left += layer.cost
    axes.set_xlim(0, total)
    axes.set_ylim(0, 2 if any(layer.functions for layer in layers) else 1)
    axes.set_yticks([])
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_xlabel(f"{unit(layers)}, nodes in order of execution")


def _kind(layer: LayerProfile) -> str:
    """What shares a colour: the operator and the kernel that did most of the work."""
    functions = layer.functions.items()
    busiest = max(functions, key=lambda item: item[1][0])[0] if functions else ""
    return f"{layer.node.op.name} {re.sub(r'[_0-9]+', '', busiest)}"


def _box(
    axes: Any, left: float, row: int, width: float, total: float, name: str, colour: str
) -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(
        Rectangle((left, row), width, 0.98, facecolor=colour, edgecolor="white", linewidth=0.4)
    )
    if width >= _NARROW * total:
        axes.text(
            left + width / 2, row + 0.5, name, ha="center", va="center", rotation=90, clip_on=True
        )

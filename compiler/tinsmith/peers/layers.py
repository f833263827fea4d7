"""How long each of our own layers takes, and how near it comes to the machine's peak."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..codegen.report import Report
from ..ir.graph import Node
from ..runner.project import Project
from .contender import Feed
from .in_process import InProcess, build_library

_WARM_UP, _RUNS = 20, 200


@dataclass(frozen=True)
class Layer:
    """shapes: of its first input and of its output. peak_share: None where no peak is known."""

    name: str
    op: str
    shapes: str
    kernel: str
    macs: int
    seconds: float
    peak_share: float | None


def measure_layers(
    project: Project, report: Report, feeds: Sequence[Feed], peak: float | None
) -> tuple[Layer, ...]:
    """Every node in order, in one thread, by the clock after each: medians of many runs.

    The code is that of the inference, but for the reading of the clock. Raises as `build_library`.
    """
    ours = InProcess(project, build_library(project, trace=True), 1)
    ours.give(feeds)
    ours.node_seconds(_WARM_UP)
    seconds = ours.node_seconds(_RUNS)
    nodes = zip(project.graph.nodes, report.nodes, seconds, strict=True)
    return tuple(
        Layer(r.name, r.op, _shapes(n), r.kernel, r.macs, float(s), _share(r.macs, float(s), peak))
        for n, r, s in nodes
    )


def _shapes(node: Node) -> str:
    x, y = ("×".join(map(str, t.shape[1:])) for t in (node.x, node.y))
    if node.op.name != "conv2d":
        return f"{x} → {y}"
    _, height, width, _ = node.inputs[1].type.shape
    depthwise = ", depthwise" if node.attrs.groups > 1 else ""
    return f"{x} → {y}, {height}×{width}{depthwise}"


def _share(macs: int, seconds: float, peak: float | None) -> float | None:
    return macs / seconds / peak if peak and macs and seconds > 0 else None

"""The graph as an SVG: nodes from top to bottom in the order of execution, skips in lanes beside.

One column is narrow enough for a phone, and the order is the one that the arena is planned for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..codegen.report_model import NodeReport, Port
from ..plan.model import short_name

ROW, BOX_HEIGHT, BOX_WIDTH, LEFT, LANE = 46, 34, 262, 4, 13


@dataclass(frozen=True)
class Box:
    """A node, or a port of the graph. index: of the node; None for a port. In pixels."""

    index: int | None
    title: str
    text: str
    kind: str
    y: int


@dataclass(frozen=True)
class Wire:
    """A value on its way; path: of an SVG."""

    path: str
    title: str


@dataclass(frozen=True)
class GraphPicture:
    """Sizes in pixels."""

    width: int
    height: int
    boxes: tuple[Box, ...]
    wires: tuple[Wire, ...]
    box_width: int = BOX_WIDTH
    box_height: int = BOX_HEIGHT
    left: int = LEFT


def draw_graph(
    nodes: Sequence[NodeReport], inputs: Sequence[Port], outputs: Sequence[Port]
) -> GraphPicture:
    """Every node and every value that flows between two of them."""
    boxes = [_port(p, "input", row) for row, p in enumerate(inputs)]
    made_in = {p.name: row for row, p in enumerate(inputs)}
    used: list[tuple[str, int, int]] = []  # value, row of its maker, row of its reader
    for node in nodes:
        row = len(boxes)
        used += [(v.name, made_in[v.name], row) for v in node.inputs if v.name in made_in]
        made_in |= {v.name: row for v in node.outputs}
        boxes.append(_node(node, row))
    for port in outputs:
        if port.name in made_in:
            used.append((port.name, made_in[port.name], len(boxes)))
        boxes.append(_port(port, "output", len(boxes)))
    lanes = _lanes([(a, b) for _, a, b in used])
    wires = tuple(
        Wire(_path(a, b, lane), name) for (name, a, b), lane in zip(used, lanes, strict=True)
    )
    width = LEFT + BOX_WIDTH + LANE * (max(lanes, default=0) + 1) + 6
    return GraphPicture(width, ROW * len(boxes) + 4, tuple(boxes), wires)


def _port(port: Port, kind: str, row: int) -> Box:
    shape = "×".join(map(str, port.shape))
    return Box(
        None, f"{kind} {short_name(port.name, 26)}", f"{port.dtype} {shape}", kind, ROW * row
    )


def _node(node: NodeReport, row: int) -> Box:
    shape = "×".join(map(str, node.outputs[0].shape)) if node.outputs else ""
    title = f"{node.index} {node.op} {short_name(node.name, 24)}"
    return Box(node.index, title, f"{shape}  {node.kernel or 'in place'}", "node", ROW * row)


def _lanes(spans: Sequence[tuple[int, int]]) -> list[int]:
    """0 for neighbours; for the others the innermost lane that no crossing span has."""
    lanes = [0] * len(spans)
    ends: list[int] = []  # the last row of each lane
    skips = sorted((a, b, i) for i, (a, b) in enumerate(spans) if b - a > 1)
    for first, last, index in skips:
        lane = next((k for k, end in enumerate(ends) if end <= first), len(ends))
        ends[lane:] = [last, *ends[lane + 1 :]]
        lanes[index] = lane + 1
    return lanes


def _path(maker: int, reader: int, lane: int) -> str:
    start, end = maker * ROW + BOX_HEIGHT, reader * ROW
    if lane == 0:
        x = LEFT + BOX_WIDTH // 2
        return f"M{x} {start}V{end - 1}"
    right = LEFT + BOX_WIDTH
    x = right + lane * LANE
    return f"M{right} {start - 10}H{x - 6}q6 0 6 6V{end + 4}q0 6 -6 6H{right + 2}"

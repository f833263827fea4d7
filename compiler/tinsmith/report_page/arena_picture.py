"""The arena as an SVG: steps across, offsets up, a rectangle per buffer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ..codegen.report_model import NodeReport, Place, Port
from ..plan.model import short_name

HEIGHT, LEFT, BOTTOM = 300, 64, 22
_COLUMN, _LEAST_WIDTH, _LETTER = 22, 900, 6
_SHORTEST = 12  # characters of a label that still says something


@dataclass(frozen=True)
class Buffer:
    """Bytes of the arena that are held from step `first` to step `last`; kind: input, output,
    value or scratch. The inputs are there before step 0."""

    name: str
    kind: str
    first: int
    last: int
    offset: int
    bytes: int


@dataclass(frozen=True)
class Bar:
    """A rectangle in pixels, with its label where that fits."""

    buffer: Buffer
    x: float
    y: float
    width: float
    height: float
    label: str


@dataclass(frozen=True)
class Line:
    """A level of the arena. y: in pixels."""

    y: float
    kind: str
    label: str


@dataclass(frozen=True)
class ArenaPicture:
    """Sizes in pixels. steps: index and x of every node."""

    width: int
    height: int
    bars: tuple[Bar, ...]
    lines: tuple[Line, ...]
    steps: tuple[tuple[int, float], ...]
    left: int = LEFT
    bottom: int = HEIGHT


def buffers(
    nodes: Sequence[NodeReport], inputs: Sequence[Port], outputs: Sequence[Port]
) -> list[Buffer]:
    """What is held when. A view's output is the buffer that it looks at."""
    found: dict[str, Buffer] = {}
    alias: dict[str, str] = {}
    for port in inputs:
        found[port.name] = Buffer(port.name, "input", -1, -1, port.offset, port.bytes)
    scratch: list[Buffer] = []
    for step, node in enumerate(nodes):
        for place in node.inputs:
            root = alias.get(place.name, place.name)
            if root in found:
                found[root] = replace(found[root], last=step)
        for place in node.outputs:
            seen = _viewed(node, place, alias)
            if seen in found:
                alias[place.name] = seen
            else:
                found[place.name] = Buffer(
                    place.name, "value", step, step, place.offset, place.bytes
                )
        if node.scratch_offset is not None and node.scratch_bytes:
            scratch.append(
                Buffer(node.name, "scratch", step, step, node.scratch_offset, node.scratch_bytes)
            )
    for port in outputs:
        root = alias.get(port.name, port.name)
        if root in found:
            found[root] = replace(found[root], kind="output", last=len(nodes))
    return [*found.values(), *scratch]


def draw_arena(
    nodes: Sequence[NodeReport],
    inputs: Sequence[Port],
    outputs: Sequence[Port],
    *,
    arena_bytes: int,
    lower_bound_bytes: int | None,
) -> ArenaPicture:
    """The arena of a run over all nodes. Sizes in bytes."""
    held = buffers(nodes, inputs, outputs)
    columns = len(nodes) + 2
    column = max(_COLUMN, _LEAST_WIDTH / columns)
    top = max(arena_bytes, 1)

    def bar(b: Buffer) -> Bar:
        width = (b.last - b.first + 1) * column
        height = max(b.bytes * HEIGHT / top, 0.5)
        room = int(width / _LETTER)
        label = short_name(b.name, room) if room >= _SHORTEST and height >= 11 else ""
        x, y = LEFT + (b.first + 1) * column, HEIGHT - (b.offset + b.bytes) * HEIGHT / top
        return Bar(b, round(x, 1), round(y, 1), round(width, 1), round(height, 1), label)

    lines = [Line(0.0, "arena", f"arena {arena_bytes:,} B")]
    if lower_bound_bytes is not None and lower_bound_bytes < arena_bytes:
        y = HEIGHT - lower_bound_bytes * HEIGHT / top
        lines.append(Line(round(y, 1), "bound", f"lower bound {lower_bound_bytes:,} B"))
    steps = tuple((n.index, round(LEFT + (i + 1.5) * column, 1)) for i, n in enumerate(nodes))
    width = int(LEFT + columns * column + 8)
    return ArenaPicture(width, HEIGHT + BOTTOM, tuple(map(bar, held)), tuple(lines), steps)


def _viewed(node: NodeReport, place: Place, alias: dict[str, str]) -> str:
    """The value whose bytes `place` shares because its node runs in place, or ""."""
    if node.kernel:
        return ""
    sources: Iterable[Place] = (
        p for p in node.inputs if (p.offset, p.bytes) == (place.offset, place.bytes)
    )
    source = next(iter(sources), None)
    return "" if source is None else alias.get(source.name, source.name)

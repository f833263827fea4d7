"""What counts are, and what several of them ask of a layer; see `counts`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from ...ir.graph import Node
from ..geometry import Geometry

Counts: TypeAlias = dict[str, float]
View: TypeAlias = Mapping[str, Any]


def inner_pixels(g: Geometry) -> int:
    """Pixels whose window crosses no border."""
    (top, bottom), (left, right) = g.inner_rows, g.inner_columns
    return (bottom - top) * (right - left)


def clamps(node: Node) -> bool:
    """Whether an int8 output is clamped to less than its range."""
    return getattr(node.attrs, "q_clamp", (-128, 127)) != (-128, 127)


def bounds(v: View) -> int:
    """How many bounds of a fused activation every output is compared with."""
    return int(v["q_min"] > -128) + int(v["q_max"] < 127)


def wide(value: int) -> int:
    """Instructions of `registers.load`."""
    return 1 + (value % 2**32 >= 2**16)


def moved(by: int) -> int:
    """Instructions of `registers.move`."""
    size = abs(by)
    return 1 + wide(size) if size > 4095 else int(size > 0)

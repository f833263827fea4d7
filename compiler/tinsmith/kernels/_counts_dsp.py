"""What counts are, and the pixels that cross no border; see `counts.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from .geometry import Geometry

Counts: TypeAlias = dict[str, float]
View: TypeAlias = Mapping[str, Any]


def inner_pixels(g: Geometry) -> int:
    """Pixels whose window crosses no border."""
    (top, bottom), (left, right) = g.inner_rows, g.inner_columns
    return (bottom - top) * (right - left)

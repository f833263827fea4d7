"""dense in int8: a 1×1 filter over rows."""

from __future__ import annotations

from ..rule import Rule
from . import _sum_tiles
from ._epilogue import fits

RULES = (
    Rule(
        op="dense",
        build=_sum_tiles.build,
        constants=_sum_tiles.constants,
        applies=fits,
        scratch_bytes=_sum_tiles.scratch_bytes,
        tiles=_sum_tiles.tiles,
    ),
)

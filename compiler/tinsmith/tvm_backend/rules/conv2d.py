"""conv2d in int8: any filter, stride, dilation and groups; depthwise has a rule of its own."""

from __future__ import annotations

from ..rule import Rule
from . import _depthwise, _sum_tiles
from ._epilogue import fits

RULES = (
    Rule(
        op="conv2d",
        build=_depthwise.build,
        constants=_depthwise.constants,
        applies=_depthwise.applies,
        scratch_bytes=_depthwise.scratch_bytes,
    ),
    Rule(
        op="conv2d",
        build=_sum_tiles.build,
        constants=_sum_tiles.constants,
        applies=fits,
        scratch_bytes=_sum_tiles.scratch_bytes,
        tiles=_sum_tiles.tiles,
    ),
)

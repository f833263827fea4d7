"""What the counts of the DSP extension's convolutions share: windows at the border, copies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ....ir.dtypes import Array
from ...geometry import Geometry
from .._types import Counts


def rounds(prefix: str, times: float, count: int) -> Counts:
    """Of a block's loop that runs `times` times, each with `count` rounds; one round is no loop."""
    looped = times * (count > 1)
    return {f"{prefix}looped": looped, f"{prefix}turns": looped * (count - 1)}


def copies(prefix: str, sizes: Array | int, times: Array | float) -> Counts:
    """Of ts_copy_s8 and ts_fill_s8: copies of so many bytes, each so many times."""
    n = np.asarray(sizes)
    return {
        prefix: float(np.sum(times + 0 * n)),
        f"{prefix}_16": float(np.sum(n // 16 * times)),
        f"{prefix}_4": float(np.sum(n % 16 // 4 * times)),
        f"{prefix}_1": float(np.sum(n % 4 * times)),
    }


def known_copies(prefix: str, size: int, times: float) -> Counts:
    """The same where the compiler knows the size: up to 48 bytes are copied without a loop."""
    if size > 48:
        return copies(f"{prefix}_loop", size, times)
    return {
        prefix: times * (size > 0),
        f"{prefix}_moves": times * (size // 4 + (0, 1, 1, 2)[size % 4]),
    }


@dataclass(frozen=True)
class Windows:
    """Per output pixel, row by row: lines of its window that lie above or below the input, and
    columns that lie before it or behind."""

    outside: Array
    before: Array
    behind: Array

    @classmethod
    def of(cls, g: Geometry) -> Windows:
        y, x = np.divmod(np.arange(g.pixels), g.out_w)
        lines = (y * g.stride_h - g.pad_top)[:, None] + np.arange(g.kernel_h) * g.dilation_h
        columns = (x * g.stride_w - g.pad_left)[:, None] + np.arange(g.kernel_w) * g.dilation_w
        outside = ((lines < 0) | (lines >= g.in_h)).sum(1)
        return cls(outside, (columns < 0).sum(1), (columns >= g.in_w).sum(1))

    @property
    def cut(self) -> Array:
        """Which have columns outside."""
        return self.before + self.behind > 0

    @property
    def at_border(self) -> Array:
        return self.cut | (self.outside > 0)

    def taken(self, which: Array) -> Windows:
        """Those of an index or of a mask."""
        return Windows(self.outside[which], self.before[which], self.behind[which])

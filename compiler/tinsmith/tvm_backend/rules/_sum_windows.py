"""Which input bytes each output pixel of a conv2d or dense node needs, and where they lie.

A window is runs of consecutive bytes: one per row of the filter where its columns are neighbours
and there is one group, else one per tap. A run is read in steps of four bytes; weights of bytes
beyond its end are 0. Windows are read from the input itself, or from a copy of what they reach,
with the border filled in and in the form that the dot product takes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...kernels.geometry import conv_geometry
from ..import_tvm import T
from ..intrinsics import TAPS
from ..rule import Site
from ._copy import copy_bytes, fill_bytes
from ._emit import Frame, Tensor, loop


@dataclass(frozen=True)
class Windows:
    """Sizes and steps in bytes of int8, but for counts.

    samples, rows, columns: output pixels. in_rows, in_row: of the input. filter_rows, runs, run:
    a window is filter_rows · runs runs of `run` bytes; row_step, run_step, column_step, group_step:
    from one to the next. stride_rows: input rows per output row. top, left: the border.
    """

    samples: int
    rows: int
    columns: int
    in_rows: int
    in_row: int
    filter_rows: int
    runs: int
    run: int
    row_step: int
    run_step: int
    column_step: int
    stride_rows: int
    groups: int
    group_step: int
    top: int
    left: int

    @property
    def steps(self) -> int:
        """Of four bytes, of a run."""
        return -(-self.run // TAPS)

    @property
    def reach_rows(self) -> int:
        """Input rows that the windows of a sample reach, from the first one on."""
        return (self.rows - 1) * self.stride_rows + (self.filter_rows - 1) * self.row_step + 1

    @property
    def reach(self) -> int:
        """Bytes of an input row that the windows reach."""
        last_group = (self.groups - 1) * self.group_step
        inner = (self.columns - 1) * self.column_step + (self.runs - 1) * self.run_step
        return inner + last_group + self.run

    @property
    def is_inside(self) -> bool:
        """Whether no window, with the slack of its last step, leaves the input."""
        slack = self.steps * TAPS - self.run
        last_row = (self.samples - 1) * self.in_rows + self.reach_rows - 1
        end = last_row * self.in_row + self.reach + slack
        return (
            self.top == self.left == 0
            and self.reach_rows <= self.in_rows
            and self.reach <= self.in_row
            and end <= self.samples * self.in_rows * self.in_row
        )

    @property
    def copy_bytes(self) -> int:
        return self.samples * self.reach_rows * self.reach + TAPS


def windows_of(site: Site) -> Windows:
    """Of a conv2d in NHWC, or a dense node: a 1×1 filter over pixels in one row."""
    node = site.node
    if node.op.name == "dense":
        return _pixels(math.prod(node.x.shape[:-1]), node.x.shape[-1])
    g, attrs = conv_geometry(node), node.attrs
    if g.is_pointwise and attrs.groups == 1:
        return _pixels(node.x.shape[0] * g.pixels, g.in_c)
    per_group = g.in_c // attrs.groups
    joined = attrs.groups == 1 and g.dilation_w == 1
    return Windows(
        samples=node.x.shape[0],
        rows=g.out_h,
        columns=g.out_w,
        in_rows=g.in_h,
        in_row=g.row_bytes,
        filter_rows=g.kernel_h,
        runs=1 if joined else g.kernel_w,
        run=g.kernel_w * g.in_c if joined else per_group,
        row_step=g.dilation_h,
        run_step=g.dilation_w * g.in_c,
        column_step=g.stride_w * g.in_c,
        stride_rows=g.stride_h,
        groups=attrs.groups,
        group_step=per_group,
        top=g.pad_top,
        left=g.pad_left * g.in_c,
    )


def _pixels(count: int, channels: int) -> Windows:
    return Windows(
        1,
        1,
        count,
        1,
        count * channels,
        1,
        1,
        channels,
        1,
        channels,
        channels,
        1,
        1,
        channels,
        0,
        0,
    )


@dataclass(frozen=True)
class Source:
    """Where windows are read: a buffer, bytes per row, rows per sample."""

    tensor: Tensor
    row: int
    rows: int


def needs_copy(site: Site, windows: Windows) -> bool:
    offset = site.offset(site.node.inputs[0])
    return offset != site.isa.storage_offset or not windows.is_inside


def source(site: Site, windows: Windows, frame: Frame) -> Source:
    """The input, or its copy in scratch, which is emitted here."""
    if not needs_copy(site, windows):
        return Source(frame.x, windows.in_row, windows.in_rows)
    w, offset = windows, site.isa.storage_offset
    copy = Tensor(frame.scratch, "uint8", offset)
    border = site.node.x.zero_point + offset
    first, last = w.top, min(w.reach_rows, w.top + w.in_rows)
    middle = min(w.in_row, w.reach - w.left)

    flip = offset != site.offset(site.node.inputs[0])
    with loop(w.samples) as sample:
        base = sample * (w.reach_rows * w.reach)
        fill_bytes(copy, base, first * w.reach, border)
        with loop(last - first) as row:
            to = T.bind(base + (first + row) * w.reach)
            at = T.bind((sample * w.in_rows + row) * w.in_row)
            fill_bytes(copy, to, w.left, border)
            copy_bytes(frame.x, at, copy, to + w.left, middle, flip=flip)
            fill_bytes(copy, to + w.left + middle, w.reach - w.left - middle, border)
        fill_bytes(copy, base + last * w.reach, (w.reach_rows - last) * w.reach, border)
    return Source(copy, w.reach, w.reach_rows)

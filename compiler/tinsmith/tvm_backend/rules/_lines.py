"""The input of a depthwise convolution as lines in which the columns of a tap have no gaps.

With a stride S the columns of a row are stored by their residue mod S, one run after the other.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...ir.graph import Node
from ...kernels.geometry import conv_geometry
from ..import_tvm import T
from ..rule import Site
from ._copy import copy_bytes, fill_bytes
from ._emit import Expr, Frame, Tensor, loop


@dataclass(frozen=True)
class Lines:
    """Counts of output pixels, input pixels, taps; row_step and column_step are dilations."""

    samples: int
    rows: int
    columns: int
    channels: int
    in_rows: int
    in_columns: int
    filter_rows: int
    filter_columns: int
    stride_rows: int
    stride_columns: int
    row_step: int
    column_step: int
    top: int
    left: int

    @property
    def reach_rows(self) -> int:
        """Input rows that a sample's windows reach."""
        return (self.rows - 1) * self.stride_rows + (self.filter_rows - 1) * self.row_step + 1

    @property
    def reach_columns(self) -> int:
        return (
            (self.columns - 1) * self.stride_columns
            + (self.filter_columns - 1) * self.column_step
            + 1
        )

    @property
    def run(self) -> int:
        """Bytes of the columns of one residue."""
        return -(-self.reach_columns // self.stride_columns) * self.channels

    @property
    def row(self) -> int:
        """Bytes of a row of the copy."""
        return self.stride_columns * self.run

    @property
    def copy_bytes(self) -> int:
        return self.samples * self.reach_rows * self.row

    def column_at(self, tap: int, source: Source) -> int:
        """Where a column of the filter begins in a line, in bytes."""
        steps, residue = divmod(tap * self.column_step, self.stride_columns)
        return residue * source.run + steps * self.channels


@dataclass(frozen=True)
class Source:
    """Where lines are read: bytes per row and per residue, rows per sample."""

    tensor: Tensor
    row: int
    run: int
    rows: int


def lines_of(node: Node) -> Lines:
    g = conv_geometry(node)
    return Lines(
        samples=node.x.shape[0],
        rows=g.out_h,
        columns=g.out_w,
        channels=g.out_c,
        in_rows=g.in_h,
        in_columns=g.in_w,
        filter_rows=g.kernel_h,
        filter_columns=g.kernel_w,
        stride_rows=g.stride_h,
        stride_columns=g.stride_w,
        row_step=g.dilation_h,
        column_step=g.dilation_w,
        top=g.pad_top,
        left=g.pad_left,
    )


def needs_copy(site: Site, lines: Lines, slack: int) -> bool:
    """slack: bytes that vectors read beyond a line."""
    inside = lines.reach_rows <= lines.in_rows and lines.reach_columns <= lines.in_columns
    plain = lines.top == lines.left == 0 and lines.stride_columns == 1 and slack == 0
    offset = site.offset(site.node.inputs[0])
    return not (inside and plain and offset == site.isa.storage_offset)


def source(site: Site, lines: Lines, frame: Frame, *, copied: bool) -> Source:
    """The input, or its copy in scratch, which is emitted here."""
    if not copied:
        row = lines.in_columns * lines.channels
        return Source(frame.x, row, row, lines.in_rows)
    offset = site.isa.storage_offset
    flip = offset != site.offset(site.node.inputs[0])
    copy, border = Tensor(frame.scratch, "uint8", offset), site.node.x.zero_point + offset
    first, last = lines.top, min(lines.reach_rows, lines.top + lines.in_rows)
    in_row = lines.in_columns * lines.channels
    with loop(lines.samples) as sample:
        base = sample * (lines.reach_rows * lines.row)
        fill_bytes(copy, base, first * lines.row, border)
        with loop(last - first) as y:
            to = T.bind(base + (first + y) * lines.row)
            at = T.bind((sample * lines.in_rows + y) * in_row)
            for residue in range(lines.stride_columns):
                _residue(lines, frame.x, at, copy, to + residue * lines.run, residue, border, flip)
        fill_bytes(copy, base + last * lines.row, (lines.reach_rows - last) * lines.row, border)
    return Source(copy, lines.row, lines.run, lines.reach_rows)


def _residue(
    lines: Lines, x: Tensor, at: Expr, copy: Tensor, to: Expr, residue: int, border: int, flip: bool
) -> None:
    """The columns of one residue of a row."""
    stride, channels = lines.stride_columns, lines.channels
    count = lines.run // channels
    before = max(0, -(-(lines.left - residue) // stride))  # columns left of the input
    end = min(count, max(before, -(-(lines.in_columns + lines.left - residue) // stride)))
    first = at + (before * stride + residue - lines.left) * channels
    fill_bytes(copy, to, before * channels, border)
    start = to + before * channels
    if stride == 1:
        copy_bytes(x, first, copy, start, (end - before) * channels, flip=flip)
    else:
        with loop(end - before) as column:
            source_at = first + column * (stride * channels)
            copy_bytes(x, source_at, copy, start + column * channels, channels, flip=flip)
    fill_bytes(copy, to + end * channels, (count - end) * channels, border)

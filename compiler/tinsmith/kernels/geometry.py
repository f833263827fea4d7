"""What kernels that sum share: window geometry in NHWC, safe overlap, bounds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..ir.dtypes import DType
from ..ir.graph import Node


@dataclass(frozen=True)
class Geometry:
    """A convolution or pooling window over NHWC tensors; sizes in elements.

    `row_bytes` and `out_row_bytes` are for int8.
    """

    in_h: int
    in_w: int
    in_c: int
    out_h: int
    out_w: int
    out_c: int
    kernel_h: int
    kernel_w: int
    stride_h: int
    stride_w: int
    pad_top: int
    pad_left: int
    dilation_h: int
    dilation_w: int

    @property
    def pixels(self) -> int:
        return self.out_h * self.out_w

    @property
    def row_bytes(self) -> int:
        return self.in_w * self.in_c

    @property
    def out_row_bytes(self) -> int:
        return self.out_w * self.out_c

    @property
    def is_pointwise(self) -> bool:
        """1×1, stride 1, no padding: every output pixel reads just the input pixel at its place."""
        return (
            self.kernel_h == self.kernel_w == self.stride_h == self.stride_w == 1
            and self.pad_top == self.pad_left == 0
            and (self.in_h, self.in_w) == (self.out_h, self.out_w)
        )

    @property
    def is_inner(self) -> bool:
        """No window crosses the border."""
        return self.inner_rows == (0, self.out_h) and self.inner_columns == (0, self.out_w)

    @property
    def inner_rows(self) -> tuple[int, int]:
        """[first, last) output rows whose window lies inside the input."""
        return _inner(
            self.out_h, self.in_h, self.kernel_h, self.stride_h, self.pad_top, self.dilation_h
        )

    @property
    def inner_columns(self) -> tuple[int, int]:
        """[first, last) output columns whose window lies inside the input."""
        return _inner(
            self.out_w, self.in_w, self.kernel_w, self.stride_w, self.pad_left, self.dilation_w
        )


def clamp_facts(node: Node) -> dict[str, Any]:
    """The bounds of a fused activation, and the zero points of an int8 node; for its view."""
    attrs = node.attrs
    if node.y.dtype is not DType.INT8:
        return {"low": attrs.clamp[0], "high": attrs.clamp[1]}
    return {
        "x_zero_point": node.x.zero_point,
        "y_zero_point": node.y.zero_point,
        "q_min": attrs.q_clamp[0],
        "q_max": attrs.q_clamp[1],
    }


def conv_geometry(node: Node) -> Geometry:
    """Of a conv2d node in NHWC with OHWI filters."""
    attrs = node.attrs
    _, in_h, in_w, in_c = node.x.shape
    _, out_h, out_w, out_c = node.y.shape
    _, kernel_h, kernel_w, _ = node.inputs[1].type.shape
    return Geometry(
        in_h,
        in_w,
        in_c,
        out_h,
        out_w,
        out_c,
        kernel_h,
        kernel_w,
        attrs.strides[0],
        attrs.strides[1],
        attrs.pads[0],
        attrs.pads[1],
        attrs.dilations[0],
        attrs.dilations[1],
    )


def is_single_pixel(node: Node) -> bool:
    """A conv2d that is a dense layer: 1×1, one group, over one pixel of one sample."""
    g = conv_geometry(node)
    return g.is_pointwise and g.pixels == 1 and node.attrs.groups == 1 and node.x.shape[0] == 1


def forward_lead(g: Geometry) -> int:
    """Safe overlap (bytes, int8) of a kernel that computes pixels in row-major order.

    It must have read all it needs of a group of pixels before it writes them. While row `oy` is
    being computed, everything from the first input row of its window on is still needed.
    """
    if g.is_pointwise:
        return max(0, g.pixels * (g.out_c - g.in_c))
    lead = 0
    for oy in range(g.out_h):
        first = min(max(0, oy * g.stride_h - g.pad_top), g.in_h)
        lead = max(lead, (oy + 1) * g.out_row_bytes - first * g.row_bytes)
    return lead


def bands_fit_in_place(g: Geometry, bands: Iterable[tuple[int, int]]) -> bool:
    """Whether no band of output rows is written over pixels that a later one has yet to read.

    bands: of each, (rows of outputs written after it, first input row not read by then).
    """
    return all(done * g.out_w <= min(g.in_h, row) * g.in_w for done, row in bands)


def window_lead(node: Node, index: int) -> int | None:
    """`Kernel.lead_bytes` of a conv2d kernel that works forward (see `forward_lead`)."""
    return forward_lead(conv_geometry(node)) if index == 0 else None


def row_lead(node: Node, index: int) -> int | None:
    """`Kernel.lead_bytes` of a dense kernel that copies each row before it writes its outputs.

    After the last row nothing is read, so a single row allows any overlap.
    """
    if index != 0:
        return None
    k, out_c = node.x.shape[-1], node.y.shape[-1]
    rows = node.x.elements // k
    if rows == 1:
        return -k
    return max((rows - 1) * (out_c - k), out_c - k)


def _inner(
    out: int, size: int, kernel: int, stride: int, pad: int, dilation: int
) -> tuple[int, int]:
    first = -(-pad // stride)
    last = (size - ((kernel - 1) * dilation + 1) + pad) // stride + 1
    first = min(first, out)
    return first, max(first, min(last, out))

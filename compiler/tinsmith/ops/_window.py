"""Sliding windows shared by convolution and pooling: shapes, ONNX padding rules, patches."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from ..ir.dtypes import Array, Shape
from ._onnx import OnnxNode

Pair = tuple[int, int]
Pads = tuple[int, int, int, int]  # top, left, bottom, right, as in ONNX


class WindowAttrs(Protocol):
    @property
    def strides(self) -> Pair: ...
    @property
    def dilations(self) -> Pair: ...
    @property
    def pads(self) -> Pads: ...


def output_size(size: Pair, kernel: Pair, attrs: WindowAttrs, *, ceil: bool = False) -> Pair:
    """Height and width of the output. Raises ValueError when the window does not fit."""
    result: list[int] = []
    for i in (0, 1):
        span = attrs.dilations[i] * (kernel[i] - 1) + 1
        room = size[i] + attrs.pads[i] + attrs.pads[i + 2] - span
        if room < 0:
            raise ValueError(f"a {kernel} window does not fit into {size} with pads {attrs.pads}")
        steps = -(-room // attrs.strides[i]) if ceil else room // attrs.strides[i]
        if ceil and steps * attrs.strides[i] >= size[i] + attrs.pads[i]:
            steps -= 1  # a window must start inside the input or its leading pad
        result.append(steps + 1)
    return result[0], result[1]


def patches(x: Array, kernel: Pair, out: Pair, attrs: WindowAttrs, fill: float | int) -> Array:
    """[N,H,W,C] → [N,OH,OW,KH,KW,C] windows, a view of the padded input."""
    (kh, kw), (oh, ow) = kernel, out
    (sh, sw), (dh, dw) = attrs.strides, attrs.dilations
    need_h = (oh - 1) * sh + (kh - 1) * dh + 1
    need_w = (ow - 1) * sw + (kw - 1) * dw + 1
    top, left = attrs.pads[0], attrs.pads[1]
    bottom = max(0, need_h - x.shape[1] - top)
    right = max(0, need_w - x.shape[2] - left)
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)
    n, _, _, c = padded.shape
    s = padded.strides
    return np.lib.stride_tricks.as_strided(
        padded,
        (n, oh, ow, kh, kw, c),
        (s[0], s[1] * sh, s[2] * sw, s[1] * dh, s[2] * dw, s[3]),
        writeable=False,
    )


def import_window(node: OnnxNode, kernel: Shape, size: Shape) -> tuple[Pair, Pair, Pads]:
    """(strides, dilations, pads) of an ONNX window; one axis becomes width, with height 1.

    kernel, size: as long as there are spatial axes. Resolves `auto_pad`.
    """
    rank = len(kernel)
    if rank not in (1, 2):
        node.fail(f"{rank}-D windows are not supported; 1-D and 2-D are")
    ones = (1,) * rank
    strides = tuple(node.attr("strides", ones))
    dilations = tuple(node.attr("dilations", ones))
    given = tuple(node.attr("pads", (0,) * 2 * rank))
    if (len(strides), len(dilations), len(given)) != (rank, rank, 2 * rank):
        node.fail(f"strides {strides}, dilations {dilations}, pads {given} are not of {rank} axes")
    auto = node.attr("auto_pad", "NOTSET")
    if auto == "NOTSET":
        pads = given
    elif auto == "VALID":
        pads = (0,) * 2 * rank
    elif auto in ("SAME_UPPER", "SAME_LOWER"):
        if min(strides) < 1:
            node.fail(f"strides {strides} are not a valid window")
        total = [
            max(0, (-(-n // s) - 1) * s + d * (k - 1) + 1 - n)
            for n, s, d, k in zip(size, strides, dilations, kernel, strict=True)
        ]
        small, large = [t // 2 for t in total], [t - t // 2 for t in total]
        begin, end = (small, large) if auto == "SAME_UPPER" else (large, small)
        pads = (*begin, *end)
    else:
        node.fail(f"auto_pad={auto!r} is not one of NOTSET, VALID, SAME_UPPER, SAME_LOWER")
    if any(v < 1 for v in (*strides, *dilations)) or any(v < 0 for v in pads):
        node.fail(f"strides {strides}, dilations {dilations}, pads {pads} are not a valid window")
    if rank == 1:
        return (1, strides[0]), (1, dilations[0]), (0, pads[0], 0, pads[1])
    return (
        (strides[0], strides[1]),
        (dilations[0], dilations[1]),
        (pads[0], pads[1], pads[2], pads[3]),
    )

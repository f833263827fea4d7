"""The float32 sums of gradients in a stated order, of single operations: C adds the same bits.

Float64 arrays are summed in float64: tests take derivatives of what these compute.
A term that a border would add is a zero, and may be left out: no sum here is ever −0.
Arrays are NHWC and OHWI.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..ir.dtypes import Array, Shape
from ._convolution import ConvolutionAttrs, padded_input, taps
from ._window import Pair, output_size


def ordered_input_gradient(g: Array, w: Array, attrs: ConvolutionAttrs, shape: Shape) -> Array:
    """Σ of g · w by taps in rows, at each tap by output channels, ascending. shape: the input's."""
    out, kh, kw, per_group = w.shape
    n, *size = g.shape[:3]
    groups = (attrs.groups, out // attrs.groups)
    dx = padded_input(np.zeros(shape, g.dtype), (kh, kw), (size[0], size[1]), attrs, 0)
    sums = dx.reshape(*dx.shape[:3], attrs.groups, per_group)
    g = g.reshape(n, *size, *groups)
    w = w.astype(g.dtype).reshape(*groups, kh, kw, per_group)
    with np.errstate(over="ignore", invalid="ignore"):
        for i, j, rows, columns in taps((kh, kw), (size[0], size[1]), attrs):
            target = sums[:, rows, columns]
            for o in range(groups[1]):
                target += g[..., o, None] * w[:, o, i, j]
    top, left = attrs.pads[0], attrs.pads[1]
    return dx[:, top : top + shape[1], left : left + shape[2]]


def ordered_filter_gradient(
    g: Array, x: Array, kernel: Pair, channels: int, attrs: ConvolutionAttrs
) -> Array:
    """Σ of g · x by the pixels of g, in rows: [O,KH,KW,channels]. x is centred.

    channels: the filter's last axis; with one group x holds just these channels.
    """
    _, out_h, out_w, out = g.shape
    groups = x.shape[3] // channels
    x = padded_input(x, kernel, (out_h, out_w), attrs, 0)
    x = x.reshape(*x.shape[:3], groups, channels)
    g = g.reshape(*g.shape[:3], groups, out // groups, 1, 1, 1)
    dw = np.zeros((groups, out // groups, *kernel, channels), np.result_type(g, x))
    (step_h, step_w), (tap_h, tap_w) = attrs.strides, attrs.dilations
    reach_h, reach_w = (kernel[0] - 1) * tap_h + 1, (kernel[1] - 1) * tap_w + 1
    with np.errstate(over="ignore", invalid="ignore"):
        for n, oy, ox in np.ndindex(*g.shape[:3]):
            top, left = oy * step_h, ox * step_w
            window = x[n, top : top + reach_h : tap_h, left : left + reach_w : tap_w]
            dw += g[n, oy, ox] * window.transpose(2, 0, 1, 3)[:, None]
    return dw.reshape(out, *kernel, channels)


def ordered_sum(g: Array) -> Array:
    """Σ over all pixels, in rows: [channels]."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.add.accumulate(g.reshape(-1, g.shape[-1]), axis=0)[-1]


def ordered_correlation(
    x: Array, parts: Sequence[tuple[Array, Sequence[int]]], attrs: ConvolutionAttrs
) -> Array:
    """Σ of x · w by parts, then taps in rows, then a part's channels: [N,OH,OW,O].

    parts: filters [O,KH,KW,I] and the I input channels of a group that they belong to.
    """
    out, kh, kw, _ = parts[0][0].shape
    size = output_size((x.shape[1], x.shape[2]), (kh, kw), attrs)
    groups = (attrs.groups, out // attrs.groups)
    x = padded_input(x, (kh, kw), size, attrs, 0)
    x = x.reshape(*x.shape[:3], attrs.groups, -1)
    y = np.zeros((x.shape[0], *size, *groups), x.dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        for filters, channels in parts:
            w = filters.reshape(*groups, kh, kw, -1)
            for i, j, rows, columns in taps((kh, kw), size, attrs):
                window = x[:, rows, columns]
                for n, c in enumerate(channels):
                    y += window[..., c, None] * w[:, :, i, j, n]
    return y.reshape(*y.shape[:3], out)

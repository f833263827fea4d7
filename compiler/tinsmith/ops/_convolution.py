"""Convolution in its three directions on exact integers held in floats: forward, to the input, to
the filter. Used by the references of the training graph.

Arrays are NHWC and OHWI. Sums are exact: the callers choose float32 or float64 by `exact_float`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..ir.dtypes import Array, Shape
from ._window import Pads, Pair, output_size, patches


@dataclass(frozen=True)
class ConvolutionAttrs:
    """The window of a convolution; layout NHWC, filters OHWI."""

    strides: Pair = (1, 1)
    pads: Pads = (0, 0, 0, 0)
    dilations: Pair = (1, 1)
    groups: int = 1


def exact_float(terms: int, largest: int) -> type[np.float32] | type[np.float64]:
    """The fastest type in which every partial sum of `terms` products ≤ `largest` is exact."""
    return np.float32 if terms * largest < 2**24 else np.float64


def is_pointwise(kernel: Pair, attrs: ConvolutionAttrs) -> bool:
    """One tap, no border, one group: a matrix product."""
    return kernel == (1, 1) and not any(attrs.pads) and attrs.groups == 1


def correlate(x: Array, w: Array, attrs: ConvolutionAttrs, fill: float) -> Array:
    """[N,H,W,C] · [O,KH,KW,I] → [N,OH,OW,O] sums; the border reads as `fill`."""
    out, kh, kw, per_group = w.shape
    size = output_size((x.shape[1], x.shape[2]), (kh, kw), attrs)
    if is_pointwise((kh, kw), attrs):
        x = x[:, :: attrs.strides[0], :: attrs.strides[1]]
        return (x.reshape(-1, x.shape[3]) @ w.reshape(out, -1).T).reshape(*x.shape[:3], out)
    if per_group == 1 and out == attrs.groups:
        padded = padded_input(x, (kh, kw), size, attrs, fill)
        y = np.zeros((x.shape[0], *size, out), x.dtype)
        for i, j, rows, columns in taps((kh, kw), size, attrs):
            y += padded[:, rows, columns] * w[:, i, j, 0]
        return y
    windows = patches(x, (kh, kw), size, attrs, fill)
    per_out = out // attrs.groups
    y = np.empty((x.shape[0], *size, out), x.dtype)
    for g in range(attrs.groups):
        columns_ = windows[..., g * per_group : (g + 1) * per_group]
        flat = columns_.reshape(-1, kh * kw * per_group)
        outs = slice(g * per_out, (g + 1) * per_out)
        y[..., outs] = (flat @ w[outs].reshape(per_out, -1).T).reshape(*y.shape[:3], per_out)
    return y


def input_gradient(g: Array, w: Array, attrs: ConvolutionAttrs, shape: Shape) -> Array:
    """Σ over outputs and taps of g · w: the transpose of `correlate`. shape: the input's."""
    out, kh, kw, per_group = w.shape
    size = (g.shape[1], g.shape[2])
    if is_pointwise((kh, kw), attrs):
        dx = (g.reshape(-1, out) @ w.reshape(out, -1)).reshape(*g.shape[:3], per_group)
        if attrs.strides == (1, 1):
            return dx
        spread = np.zeros(shape, g.dtype)
        spread[:, :: attrs.strides[0], :: attrs.strides[1]] = dx
        return spread
    padded = padded_input(np.zeros(shape, g.dtype), (kh, kw), size, attrs, 0)
    per_out = out // attrs.groups
    for i, j, rows, columns in taps((kh, kw), size, attrs):
        target = padded[:, rows, columns]
        if per_group == 1 and per_out == 1:
            target += g * w[:, i, j, 0]
            continue
        for n in range(attrs.groups):
            outs, ins = _slices(n, per_out, per_group)
            target[..., ins] += g[..., outs] @ w[outs, i, j]
    top, left = attrs.pads[0], attrs.pads[1]
    return padded[:, top : top + shape[1], left : left + shape[2]]


def filter_gradient(
    g: Array, x: Array, kernel: Pair, channels: int, attrs: ConvolutionAttrs
) -> Array:
    """Σ over pixels of g · x: [O,KH,KW,channels]. x is centred: its border counts as 0.

    channels: the filter's last axis; with one group x holds just these channels.
    """
    out, size = g.shape[3], (g.shape[1], g.shape[2])
    if is_pointwise(kernel, attrs):
        x = x[:, :: attrs.strides[0], :: attrs.strides[1]]
        return (g.reshape(-1, out).T @ x.reshape(-1, channels)).reshape(out, 1, 1, channels)
    groups = x.shape[3] // channels
    per_out = out // groups
    padded = padded_input(x, kernel, size, attrs, 0)
    dw = np.empty((out, *kernel, channels), x.dtype)
    for i, j, rows, columns in taps(kernel, size, attrs):
        window = padded[:, rows, columns]
        if channels == 1 and per_out == 1:
            dw[:, i, j, 0] = np.einsum("nhwc,nhwc->c", g, window)
            continue
        for n in range(groups):
            outs, ins = _slices(n, per_out, channels)
            left = g[..., outs].reshape(-1, per_out)
            dw[outs, i, j] = left.T @ window[..., ins].reshape(-1, channels)
    return dw


def _slices(group: int, per_out: int, per_group: int) -> tuple[slice, slice]:
    """The output and input channels of one group."""
    return (
        slice(group * per_out, (group + 1) * per_out),
        slice(group * per_group, (group + 1) * per_group),
    )


def padded_input(x: Array, kernel: Pair, out: Pair, attrs: ConvolutionAttrs, fill: float) -> Array:
    """x with its border, as far as windows reach."""
    reach = [
        max(
            (out[a] - 1) * attrs.strides[a] + (kernel[a] - 1) * attrs.dilations[a] + 1,
            x.shape[a + 1] + attrs.pads[a],
        )
        for a in (0, 1)
    ]
    padded = np.full((x.shape[0], *reach, x.shape[3]), fill, x.dtype)
    top, left = attrs.pads[0], attrs.pads[1]
    padded[:, top : top + x.shape[1], left : left + x.shape[2]] = x
    return padded


def taps(
    kernel: Pair, out: Pair, attrs: ConvolutionAttrs
) -> Iterator[tuple[int, int, slice, slice]]:
    """(i, j, rows, columns): the part of the padded input that tap (i, j) reads."""
    (sh, sw), (dh, dw) = attrs.strides, attrs.dilations
    for i in range(kernel[0]):
        rows = slice(i * dh, i * dh + (out[0] - 1) * sh + 1, sh)
        for j in range(kernel[1]):
            yield i, j, rows, slice(j * dw, j * dw + (out[1] - 1) * sw + 1, sw)

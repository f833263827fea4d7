"""Operators that only move elements: strided copies, int8 and float32."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from ...ir.dtypes import DType
from ...kernels import Constant
from ...kernels.portable import concat as portable_concat
from ...kernels.portable._movement import strides_of
from ...ops.pad import PadAttrs, full_widths
from ...ops.resize import spatial_axes
from ...ops.slice import rows
from ..import_tvm import PrimFunc
from ..rule import Rule, Site
from ._emit import Frame, define, loop
from ._strided import Axis, copy, fill, restored

_Segment = tuple[int, int, int, int]  # count, first in the source, its step, first in the target


def build_transpose(site: Site) -> PrimFunc:
    node = site.node
    strides = strides_of(node.x.shape)
    return _dense(site, [strides[p] for p in node.attrs.perm], 0)


def build_slice(site: Site) -> PrimFunc:
    strides = strides_of(site.node.x.shape)
    start = 0
    for axis, first, _, step in rows(site.node.attrs):
        start += first * strides[axis]
        strides[axis] *= step
    return _dense(site, strides, start)


def build_resize(site: Site) -> PrimFunc:
    """Every pixel `scale` times: an axis of its own with no step in the source."""
    node = site.node
    strides, scales = strides_of(node.x.shape), [1] * 4
    for axis, scale in zip(spatial_axes(node.attrs), node.attrs.scales, strict=True):
        scales[axis] = scale
    split = [
        pair
        for size, scale, stride in zip(node.x.shape, scales, strides, strict=True)
        for pair in ((size, stride), (scale, 0))
    ]
    target = strides_of(tuple(size for size, _ in split))
    axes = [Axis(size, s, t) for (size, s), t in zip(split, target, strict=True)]
    return define(site, lambda frame: copy(frame.x, frame.y, axes))


def _dense(site: Site, strides: Sequence[int], start: int) -> PrimFunc:
    """A dense output that reads at start + Σ index · stride."""
    shape = site.node.y.shape
    axes = [Axis(*a) for a in zip(shape, strides, strides_of(shape), strict=True)]
    return define(site, lambda frame: copy(frame.x, frame.y, axes, start))


def build_split(site: Site) -> PrimFunc:
    node = site.node
    outer = math.prod(node.x.shape[: node.attrs.axis])
    row = node.x.elements // outer

    def body(frame: Frame) -> None:
        start = 0
        for target, value in zip(frame.outputs, node.outputs, strict=True):
            size = value.type.elements // outer
            copy(frame.x, target, [Axis(outer, row, size), Axis(size, 1, 1)], start)
            start += size

    return define(site, body)


def build_concat(site: Site) -> PrimFunc:
    node = site.node
    outer = math.prod(node.y.shape[: node.attrs.axis])
    row = node.y.elements // outer

    def body(frame: Frame) -> None:
        at = 0
        for i, value in enumerate(node.inputs):
            source = frame.inputs.get(i) or frame.constants[f"part{i}"]
            size = value.type.elements // outer
            copy(source, frame.y, [Axis(outer, size, row), Axis(size, 1, 1)], at=at)
            at += size

    return define(site, body, concat_constants(site))


def concat_constants(site: Site) -> Mapping[str, Constant]:
    return portable_concat.constants(site.node, site.graph)


def build_pad(site: Site) -> PrimFunc:
    node = site.node
    attrs: PadAttrs = node.attrs
    source, target = strides_of(node.x.shape), strides_of(node.y.shape)
    widths = full_widths(attrs, node.x.rank)

    def body(frame: Frame) -> None:
        if attrs.mode == "constant":
            value = attrs.value if node.y.dtype is DType.FLOAT32 else attrs.q_value
            for axes, at in _border(node.x.shape, widths, target):
                fill(frame.y, value, axes, at)
        segments = [_segments(n, w, attrs.mode) for n, w in zip(node.x.shape, widths, strict=True)]
        for parts in itertools.product(*segments):
            axes = [
                Axis(count, step * s, t)
                for (count, _, step, _), s, t in zip(parts, source, target, strict=True)
            ]
            start = sum(first * s for (_, first, _, _), s in zip(parts, source, strict=True))
            at = sum(first * t for (_, _, _, first), t in zip(parts, target, strict=True))
            copy(frame.x, frame.y, axes, start, at)

    return define(site, body)


def _segments(size: int, width: tuple[int, int], mode: str) -> list[_Segment]:
    """One axis of the output in parts that read the input with one step each."""
    before, after = width
    inner = (size, 0, 1, before)
    if mode == "constant":
        return [inner]
    reflect = mode == "reflect"
    found = [
        (before, before if reflect else 0, -1 if reflect else 0, 0),
        inner,
        (after, size - 2 if reflect else size - 1, -1 if reflect else 0, before + size),
    ]
    return [s for s in found if s[0]]


def _border(
    shape: Sequence[int], widths: Sequence[tuple[int, int]], target: Sequence[int]
) -> Iterator[tuple[list[Axis], int]]:
    """The regions around the input: of each axis what lies before and after, inside the ones
    before it and over the whole of the ones after it."""
    for axis, (before, after) in enumerate(widths):
        for count, first in ((before, 0), (after, before + shape[axis])):
            if not count:
                continue
            counts = [*shape[:axis], count]
            counts += [
                n + sum(w) for n, w in zip(shape[axis + 1 :], widths[axis + 1 :], strict=True)
            ]
            at = first * target[axis]
            at += sum(w[0] * t for w, t in zip(widths[:axis], target, strict=False))
            yield [Axis(c, 0, t) for c, t in zip(counts, target, strict=True)], at


def build_permute(site: Site) -> PrimFunc:
    """y[…, i] = x[…, order[i]]."""
    channels = site.node.x.shape[-1]

    def body(frame: Frame) -> None:
        order = frame.constants["order"]
        with loop(site.node.x.elements // channels) as pixel, loop(channels) as i:
            moved = frame.x.raw(pixel * channels + order.raw(i))
            frame.y.put(pixel * channels + i, restored(moved, frame.x, frame.y, 1))

    return define(site, body, permute_constants(site))


def permute_constants(site: Site) -> Mapping[str, Constant]:
    return {"order": Constant(np.ravel(site.graph.constant(site.node.inputs[1])))}


def _rules(op: str, build: Callable[[Site], PrimFunc], **more: object) -> tuple[Rule, ...]:
    return tuple(Rule(op, build, dtype, **more) for dtype in (DType.INT8, DType.FLOAT32))  # pyright: ignore[reportArgumentType]


RULES = (
    *_rules("transpose", build_transpose),
    *_rules("slice", build_slice),
    *_rules("resize", build_resize),
    *_rules("split", build_split),
    *_rules("concat", build_concat, constants=concat_constants),
    *_rules("pad", build_pad),
    Rule("permute_channels", build_permute, constants=permute_constants),
)

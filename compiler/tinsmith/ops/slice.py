"""Slices with any start and step; ONNX Gather with constant indices becomes slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..ir.dtypes import Array, TensorType
from ..ir.graph import Node, Value
from ..ir.opdef import Case, IntegerRule, OpDef, no_macs
from . import _gradient_rules
from ._movement import lower_movement
from ._onnx import ExportContext, ImportContext, OnnxNode

_GATHER_SLICES = 16  # more single slices than this would be a gather kernel


@dataclass(frozen=True)
class SliceAttrs:
    """Along axes[i] (not negative): sizes[i] elements from starts[i] on, steps[i] apart (not 0)."""

    axes: tuple[int, ...] = ()
    starts: tuple[int, ...] = ()
    sizes: tuple[int, ...] = ()
    steps: tuple[int, ...] = ()


def infer(types: Sequence[TensorType], attrs: SliceAttrs) -> Sequence[TensorType]:
    (x,) = types
    shape = list(x.shape)
    for axis, start, size, step in rows(attrs):
        if not 0 <= axis < x.rank:
            raise ValueError(f"{x} has no axis {axis}")
        last = start + (size - 1) * step
        if size < 1 or step == 0 or not (0 <= start < x.shape[axis] and 0 <= last < x.shape[axis]):
            raise ValueError(f"start {start}, size {size}, step {step} leave axis {axis} of {x}")
        shape[axis] = size
    return (x.with_shape(tuple(shape)),)


def rows(attrs: SliceAttrs) -> list[tuple[int, int, int, int]]:
    """(axis, start, size, step) of each sliced axis."""
    return list(zip(attrs.axes, attrs.starts, attrs.sizes, attrs.steps, strict=True))


def reference(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """The selected elements; any dtype."""
    x = arrays[0]
    for axis, start, size, step in rows(node.attrs):
        x = x.take(start + np.arange(size) * step, axis=axis)
    return (x,)


def import_slice(node: OnnxNode, out: ImportContext) -> Sequence[Value]:
    """Opset 10 and later: starts, ends, axes, steps are constants; bounds clamp as in numpy."""
    x = node.x(0)
    starts, ends = node.integers(1), node.integers(2)
    if starts is None or ends is None:
        node.fail("starts and ends are not given")
    count, axes, steps = len(starts), node.integers(3), node.integers(4)
    axes = tuple(range(count)) if axes is None else axes
    steps = (1,) * count if steps is None else steps
    if not count == len(ends) == len(axes) == len(steps):
        node.fail(f"{count} starts, {len(ends)} ends, {len(axes)} axes, {len(steps)} steps")
    kept: list[tuple[int, int, int, int]] = []
    for given, start, end, step in zip(axes, starts, ends, steps, strict=True):
        axis = node.axis(given, x.type.rank)
        length = x.type.shape[axis]
        if step == 0:
            node.fail("a step of 0 is not a slice")
        selected = range(*slice(start, end, step).indices(length))
        if not selected:
            node.fail(f"[{start}:{end}:{step}] selects nothing of axis {axis} of {x.type}")
        if selected != range(length):
            kept.append((axis, selected[0], len(selected), step))
    return _emit(out, x, kept)


def import_gather(node: OnnxNode, out: ImportContext) -> Sequence[Value]:
    """Gather along one axis with a constant scalar or 1-D list of indices."""
    x, indices = node.x(0), node.array(1)
    if indices is None or indices.ndim > 1 or not indices.size or indices.dtype.kind not in "iu":
        node.fail("only a constant scalar or 1-D list of indices is supported")
    axis = node.axis(int(node.attr("axis", 0)), x.type.rank)
    length = x.type.shape[axis]
    picks = [int(i) for i in np.ravel(indices)]
    if any(not -length <= i < length for i in picks):
        node.fail(f"indices {picks} leave axis {axis} of {x.type}")
    picks = [i % length for i in picks]
    if indices.ndim == 0:
        (y,) = _emit(out, x, [(axis, picks[0], 1, 1)])
        reshape = out.op("reshape")
        shape = x.type.shape[:axis] + x.type.shape[axis + 1 :]
        return out.emit(reshape, [y], reshape.attrs(shape), ".scalar")
    steps = set(np.diff(picks).tolist()) or {1}
    if len(steps) == 1 and 0 not in steps:
        return _emit(out, x, [(axis, picks[0], len(picks), steps.pop())])
    if len(picks) > _GATHER_SLICES:
        node.fail(f"{len(picks)} irregular indices are not supported; up to {_GATHER_SLICES} are")
    parts = [_emit(out, x, [(axis, p, 1, 1)], f".{i}")[0] for i, p in enumerate(picks)]
    concat = out.op("concat")
    return out.emit(concat, parts, concat.attrs(axis))


def export(node: Node, out: ExportContext) -> None:
    attrs: SliceAttrs = node.attrs
    # A negative step may run past the front: its end is then "before everything".
    ends = [
        stop if (stop := start + size * step) >= 0 else -(2**31)
        for _, start, size, step in rows(attrs)
    ]
    columns = {"starts": attrs.starts, "ends": ends, "axes": attrs.axes, "steps": attrs.steps}
    extra = [out.constant(name, np.array(column, np.int64)) for name, column in columns.items()]
    out.node("Slice", [out.name(node.inputs[0]), *extra], [out.name(node.outputs[0])])


def _emit(
    out: ImportContext, x: Value, kept: list[tuple[int, int, int, int]], suffix: str = ""
) -> Sequence[Value]:
    if not kept:
        return (x,)
    axes, starts, sizes, steps = (tuple(column) for column in zip(*kept, strict=True))
    return out.emit(OP, [x], SliceAttrs(axes, starts, sizes, steps), suffix)


CASES = (
    Case("crop", ((1, 3, 8, 9),), SliceAttrs((2, 3), (1, 2), (5, 6), (1, 1))),
    Case("channels", ((1, 9, 4, 5),), SliceAttrs((1,), (3,), (4,), (1,))),
    Case("every_other", ((1, 4, 7, 9),), SliceAttrs((2, 3), (0, 1), (4, 4), (2, 2))),
    Case("reversed", ((1, 5, 3, 4),), SliceAttrs((1, 3), (4, 3), (5, 2), (-1, -2))),
    Case("vector", ((1, 13),), SliceAttrs((1,), (2,), (7,), (1,))),
    Case("batch", ((5, 3),), SliceAttrs((0,), (1,), (2,), (2,))),
)

OP = OpDef(
    name="slice",
    attrs=SliceAttrs,
    infer=infer,
    reference=reference,
    integer=IntegerRule(lower=lower_movement, reference=reference, output="as_input"),
    macs=no_macs,
    onnx_import={"Slice": import_slice, "Gather": import_gather},
    onnx_export=export,
    cases=CASES,
    gradient=_gradient_rules.slice_,
)

"""Padding with a constant, the edge or the reflection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ..errors import CompileError
from ..ir.dtypes import Array, TensorType
from ..ir.graph import Node, Value
from ..ir.opdef import Case, IntegerRule, OpDef, no_macs
from ..ir.rewrite import Rewriter
from . import _gradient_rules
from ._movement import lower_movement
from ._onnx import ExportContext, ImportContext, OnnxNode

_MODES = ("constant", "edge", "reflect")


@dataclass(frozen=True)
class PadAttrs:
    """before[i] and after[i] elements are put around axes[i] (not negative).

    value: what constant padding holds; q_value: the same in the input's integers, set by `lower`.
    """

    axes: tuple[int, ...] = ()
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    mode: Literal["constant", "edge", "reflect"] = "constant"
    value: float = 0.0
    q_value: int = 0


def infer(types: Sequence[TensorType], attrs: PadAttrs) -> Sequence[TensorType]:
    (x,) = types
    shape = list(x.shape)
    for axis, before, after in zip(attrs.axes, attrs.before, attrs.after, strict=True):
        if not 0 <= axis < x.rank or before < 0 or after < 0:
            raise ValueError(f"cannot put {before} and {after} around axis {axis} of {x}")
        if attrs.mode == "reflect" and max(before, after) >= x.shape[axis]:
            raise ValueError(f"a reflection of {max(before, after)} leaves axis {axis} of {x}")
        shape[axis] += before + after
    return (x.with_shape(tuple(shape)),)


def full_widths(attrs: PadAttrs, rank: int) -> list[tuple[int, int]]:
    """(before, after) of every axis."""
    widths = {a: (b, c) for a, b, c in zip(attrs.axes, attrs.before, attrs.after, strict=True)}
    return [widths.get(axis, (0, 0)) for axis in range(rank)]


def reference(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """The padded array; any dtype."""
    return (_pad(arrays[0], node.attrs, node.attrs.value),)


def integer_reference(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    return (_pad(arrays[0], node.attrs, node.attrs.q_value),)


def lower(node: Node, rewriter: Rewriter) -> None:
    """Sets q_value. Raises CompileError when the scale cannot hold the constant."""
    attrs: PadAttrs = node.attrs
    q = round(attrs.value / node.x.scale) + node.x.zero_point if np.isfinite(attrs.value) else 999
    if attrs.mode != "constant":
        q = 0
    elif not -128 <= q <= 127:
        low, high = ((b - node.x.zero_point) * node.x.scale for b in (-128, 127))
        raise CompileError(
            f"the padding value {attrs.value:g} is outside the input's int8 range",
            node=str(node.origin),
            expected=f"a value in [{low:g}, {high:g}]",
            hint="pad inside the next pooling or convolution, or calibrate with data that has it",
        )
    lower_movement(node, rewriter, replace(attrs, q_value=q))


def import_pad(node: OnnxNode, out: ImportContext) -> Sequence[Value]:
    """Opset 11 and later: pads, value and (from 18) axes are constant inputs."""
    x = node.x(0)
    mode = node.attr("mode", "constant")
    if mode not in _MODES:
        node.fail(f"mode {mode!r} is not supported; {', '.join(_MODES)} are")
    widths = node.integers(1)
    if widths is None:
        node.fail("the pads are not given")
    value = node.array(2)
    axes = node.integers(3)
    listed = range(x.type.rank) if axes is None else axes
    if len(widths) != 2 * len(listed):
        node.fail(f"{len(widths)} pads do not match {len(listed)} axes")
    if min(widths, default=0) < 0:
        node.fail("negative pads are not supported; use Slice")
    half = len(listed)
    kept = [
        (node.axis(axis, x.type.rank), widths[i], widths[half + i])
        for i, axis in enumerate(listed)
        if widths[i] or widths[half + i]
    ]
    if not kept:
        return (x,)
    axis, before, after = (tuple(c) for c in zip(*sorted(kept), strict=True))
    number = 0.0 if value is None or not value.size else float(np.ravel(value)[0])
    return out.emit(OP, [x], PadAttrs(axis, before, after, mode, number))


def export(node: Node, out: ExportContext) -> None:
    attrs: PadAttrs = node.attrs
    widths = np.array(full_widths(attrs, node.x.rank), np.int64).T.reshape(-1)
    extra = [out.constant("pads", widths)]
    if attrs.mode == "constant":
        extra.append(out.constant("value", np.array(attrs.value, np.float32)))
    names = [out.name(node.inputs[0]), *extra]
    out.node("Pad", names, [out.name(node.outputs[0])], mode=attrs.mode)


def _pad(x: Array, attrs: PadAttrs, value: float | int) -> Array:
    widths = full_widths(attrs, x.ndim)
    if attrs.mode == "constant":
        return np.pad(x, widths, constant_values=value)
    return np.pad(x, widths, mode=attrs.mode)


CASES = (
    Case("border", ((1, 3, 5, 6),), PadAttrs((2, 3), (1, 1), (1, 1))),
    Case("uneven", ((1, 2, 4, 3),), PadAttrs((2, 3), (0, 2), (3, 1))),
    Case("channels_value", ((1, 3, 4, 5),), PadAttrs((1,), (1,), (2,), "constant", 0.5)),
    Case("vector", ((1, 7),), PadAttrs((1,), (3,), (2,))),
    Case("edge", ((1, 3, 4, 5),), PadAttrs((2, 3), (2, 0), (1, 3), "edge")),
    Case("reflect", ((1, 2, 5, 6),), PadAttrs((2, 3), (2, 1), (1, 4), "reflect")),
    Case("all_axes", ((1, 2, 3, 3),), PadAttrs((0, 1, 2, 3), (1, 0, 1, 2), (0, 1, 1, 0))),
)

OP = OpDef(
    name="pad",
    attrs=PadAttrs,
    infer=infer,
    reference=reference,
    integer=IntegerRule(lower=lower, reference=integer_reference, output="as_input"),
    macs=no_macs,
    onnx_import={"Pad": import_pad},
    onnx_export=export,
    cases=CASES,
    gradient=_gradient_rules.pad,
)

"""Concatenation along one axis. Quantised, inputs in another scale are rescaled first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..ir.dtypes import Array, TensorType
from ..ir.graph import Node, Value
from ..ir.opdef import Case, IntegerRule, OpDef, no_macs
from ..ir.rewrite import Rewriter
from . import _gradient_rules
from ._movement import rescale
from ._onnx import ExportContext, ImportContext, OnnxNode


@dataclass(frozen=True)
class ConcatAttrs:
    """axis: not negative."""

    axis: int = 0


def infer(types: Sequence[TensorType], attrs: ConcatAttrs) -> Sequence[TensorType]:
    first, axis = types[0], attrs.axis
    if not 0 <= axis < first.rank:
        raise ValueError(f"{first} has no axis {axis}")
    for t in types[1:]:
        if t.dtype != first.dtype or _without(t, axis) != _without(first, axis):
            raise ValueError(f"cannot join {t} to {first} along axis {axis}")
    shape = list(first.shape)
    shape[axis] = sum(t.shape[axis] for t in types)
    return (first.with_shape(tuple(shape)),)


def reference(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """The inputs one after the other; any dtype."""
    return (np.concatenate(arrays, axis=node.attrs.axis),)


def lower(node: Node, rewriter: Rewriter) -> None:
    inputs = [rescale(v, node.y, rewriter, node.origin) for v in node.inputs]
    rewriter.emit(OP, inputs, node.attrs, origin=node.origin, outputs=node.outputs)


def import_concat(node: OnnxNode, out: ImportContext) -> Sequence[Value]:
    values = [v for v in node.inputs if v is not None]
    filled = [v for v in values if v.type.elements] or values[:1]
    if len(filled) == 1:
        return (filled[0],)
    axis = node.attr("axis")
    if axis is None:
        node.fail("the axis is not given")
    return out.emit(OP, filled, ConcatAttrs(node.axis(axis, filled[0].type.rank)))


def export(node: Node, out: ExportContext) -> None:
    names = [out.name(v) for v in node.inputs]
    out.node("Concat", names, [out.name(node.outputs[0])], axis=node.attrs.axis)


def _without(type_: TensorType, axis: int) -> tuple[int, ...]:
    return type_.shape[:axis] + type_.shape[axis + 1 :]


CASES = (
    Case("channels", ((1, 3, 4, 5), (1, 6, 4, 5)), ConcatAttrs(1)),
    Case("height_three", ((1, 2, 3, 7), (1, 2, 1, 7), (1, 2, 5, 7)), ConcatAttrs(2)),
    Case("vectors", ((1, 5), (1, 11)), ConcatAttrs(1)),
    Case("batch", ((2, 3), (1, 3)), ConcatAttrs(0)),
    Case("with_constant", ((1, 4, 3, 3),), ConcatAttrs(1), params=((1, 2, 3, 3),)),
)

OP = OpDef(
    name="concat",
    attrs=ConcatAttrs,
    infer=infer,
    reference=reference,
    integer=IntegerRule(lower=lower, reference=reference, output="as_inputs"),
    macs=no_macs,
    onnx_import={"Concat": import_concat},
    onnx_export=export,
    cases=CASES,
    gradient=_gradient_rules.concat,
)

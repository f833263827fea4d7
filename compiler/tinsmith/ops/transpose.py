"""Transpose: any permutation of up to six axes."""

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

MAX_RANK = 6


@dataclass(frozen=True)
class TransposeAttrs:
    """perm: output axis i is input axis perm[i]."""

    perm: tuple[int, ...] = ()


def infer(types: Sequence[TensorType], attrs: TransposeAttrs) -> Sequence[TensorType]:
    (x,) = types
    if sorted(attrs.perm) != list(range(x.rank)):
        raise ValueError(f"{attrs.perm} is not a permutation of the axes of {x}")
    if x.rank > MAX_RANK:
        raise ValueError(f"takes up to {MAX_RANK} axes, not {x}")
    return (x.with_shape(tuple(x.shape[p] for p in attrs.perm)),)


def reference(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """The permuted array; any dtype."""
    return (np.ascontiguousarray(arrays[0].transpose(node.attrs.perm)),)


def import_transpose(node: OnnxNode, out: ImportContext) -> Sequence[Value]:
    x = node.x(0)
    perm = tuple(node.attr("perm", tuple(reversed(range(x.type.rank)))))
    if x.type.rank > MAX_RANK:
        node.fail(f"more than {MAX_RANK} axes are not supported")
    if perm == tuple(range(x.type.rank)):
        return (x,)
    return out.emit(OP, [x], TransposeAttrs(perm))


def export(node: Node, out: ExportContext) -> None:
    names = [out.name(node.inputs[0])], [out.name(node.outputs[0])]
    out.node("Transpose", *names, perm=node.attrs.perm)


CASES = (
    Case("to_nhwc", ((1, 3, 5, 7),), TransposeAttrs((0, 2, 3, 1))),
    Case("to_nchw", ((1, 5, 7, 3),), TransposeAttrs((0, 3, 1, 2))),
    Case("matrix", ((9, 4),), TransposeAttrs((1, 0))),
    Case("rows", ((2, 3, 4, 5),), TransposeAttrs((1, 0, 2, 3))),
    Case("six_axes", ((2, 3, 2, 1, 3, 2),), TransposeAttrs((5, 1, 3, 0, 4, 2))),
)

OP = OpDef(
    name="transpose",
    attrs=TransposeAttrs,
    infer=infer,
    reference=reference,
    integer=IntegerRule(lower=lower_movement, reference=reference, output="as_input"),
    macs=no_macs,
    onnx_import={"Transpose": import_transpose},
    onnx_export=export,
    cases=CASES,
    gradient=_gradient_rules.transpose,
)

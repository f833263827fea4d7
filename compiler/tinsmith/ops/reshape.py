"""Reshape, and its relatives Flatten, Squeeze and Unsqueeze: the same bytes under another shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..ir.dtypes import Array, Shape, TensorType
from ..ir.graph import Node, Value
from ..ir.opdef import Case, IntegerRule, OpDef, no_macs
from ..ir.rewrite import Rewriter
from . import _gradient_rules
from ._onnx import ExportContext, ImportContext, OnnxNode


@dataclass(frozen=True)
class ReshapeAttrs:
    """shape: the output's, every dimension explicit."""

    shape: Shape = ()


def infer(types: Sequence[TensorType], attrs: ReshapeAttrs) -> Sequence[TensorType]:
    (x,) = types
    if x.elements != math.prod(attrs.shape):
        raise ValueError(f"cannot reshape {x} to {list(attrs.shape)}")
    return (x.with_shape(attrs.shape),)


def reference(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    return (arrays[0].reshape(node.attrs.shape),)


def lower(node: Node, rewriter: Rewriter) -> None:
    """Already integer: the bytes do not change."""
    rewriter.keep(node)


def import_reshape(node: OnnxNode, out: ImportContext) -> Sequence[Value]:
    x = node.x(0)
    given = node.integers(1)
    if given is None:
        node.fail("the shape is not given")
    keep_zero = node.attr("allowzero", 0)
    shape = [
        x.type.shape[i] if d == 0 and not keep_zero and i < x.type.rank else d
        for i, d in enumerate(given)
    ]
    if -1 in shape:
        rest = math.prod(d for d in shape if d != -1)
        if shape.count(-1) > 1 or rest == 0 or x.type.elements % rest:
            node.fail(f"cannot reshape {x.type} to {shape}")
        shape[shape.index(-1)] = x.type.elements // rest
    return _emit(node, out, tuple(shape))


def import_flatten(node: OnnxNode, out: ImportContext) -> Sequence[Value]:
    shape = node.x(0).type.shape
    axis = int(node.attr("axis", 1))
    if not -len(shape) <= axis <= len(shape):
        node.fail(f"axis {axis} does not exist in a tensor of rank {len(shape)}")
    axis += len(shape) if axis < 0 else 0  # from −rank to rank, both included
    return _emit(node, out, (math.prod(shape[:axis]), math.prod(shape[axis:])))


def import_squeeze(node: OnnxNode, out: ImportContext) -> Sequence[Value]:
    shape = node.x(0).type.shape
    axes = _axes(node, len(shape))
    drop = {i for i, d in enumerate(shape) if d == 1} if axes is None else axes
    if any(shape[i] != 1 for i in drop):
        node.fail(f"cannot squeeze axes {sorted(drop)} of {list(shape)}")
    return _emit(node, out, tuple(d for i, d in enumerate(shape) if i not in drop))


def import_unsqueeze(node: OnnxNode, out: ImportContext) -> Sequence[Value]:
    shape = node.x(0).type.shape
    given = node.attr("axes") if node.opset < 13 else node.integers(1)
    if given is None:
        node.fail("the axes are not given")
    rank = len(shape) + len(given)
    axes = {node.axis(a, rank) for a in given}
    if len(axes) != len(given):
        node.fail(f"the axes {list(given)} name one twice")
    rest = iter(shape)
    return _emit(node, out, tuple(1 if i in axes else next(rest) for i in range(rank)))


def export(node: Node, out: ExportContext) -> None:
    shape = out.constant("shape", np.array(node.attrs.shape, np.int64))
    out.node("Reshape", [out.name(node.inputs[0]), shape], [out.name(node.outputs[0])])


def _axes(node: OnnxNode, rank: int) -> set[int] | None:
    given = node.attr("axes") if node.opset < 13 else node.integers(1)
    return None if given is None else {node.axis(a, rank) for a in given}


def _emit(node: OnnxNode, out: ImportContext, shape: Shape) -> Sequence[Value]:
    x = node.x(0)
    if x.type.elements != math.prod(shape):
        node.fail(f"cannot reshape {x.type} to {list(shape)}")
    return out.emit(OP, [x], ReshapeAttrs(shape))


OP = OpDef(
    name="reshape",
    attrs=ReshapeAttrs,
    infer=infer,
    reference=reference,
    integer=IntegerRule(lower=lower, reference=reference, output="as_input"),
    macs=no_macs,
    onnx_import={
        "Reshape": import_reshape,
        "Flatten": import_flatten,
        "Squeeze": import_squeeze,
        "Unsqueeze": import_unsqueeze,
    },
    onnx_export=export,
    cases=(
        Case("flatten", ((1, 4, 3, 5),), ReshapeAttrs((1, 60))),
        Case("split_axis", ((1, 12),), ReshapeAttrs((1, 3, 4))),
    ),
    is_view=True,
    gradient=_gradient_rules.reshape,
)

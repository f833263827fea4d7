"""Split along one axis into several outputs, in the input's scale."""

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


@dataclass(frozen=True)
class SplitAttrs:
    """axis: not negative. sizes: length of each output along it."""

    axis: int = 0
    sizes: tuple[int, ...] = ()


def infer(types: Sequence[TensorType], attrs: SplitAttrs) -> Sequence[TensorType]:
    (x,) = types
    if not 0 <= attrs.axis < x.rank:
        raise ValueError(f"{x} has no axis {attrs.axis}")
    if any(s < 1 for s in attrs.sizes) or sum(attrs.sizes) != x.shape[attrs.axis]:
        raise ValueError(f"sizes {attrs.sizes} do not add up to axis {attrs.axis} of {x}")
    before, after = x.shape[: attrs.axis], x.shape[attrs.axis + 1 :]
    return tuple(x.with_shape((*before, s, *after)) for s in attrs.sizes)


def reference(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """The parts in order; any dtype."""
    attrs: SplitAttrs = node.attrs
    cuts = np.cumsum(attrs.sizes)[:-1].tolist()
    return [np.ascontiguousarray(p) for p in np.split(arrays[0], cuts, axis=attrs.axis)]


def import_split(node: OnnxNode, out: ImportContext) -> Sequence[Value]:
    """Sizes from the attribute (opset < 13), the input, or equal parts, the last smaller."""
    x = node.x(0)
    axis = node.axis(int(node.attr("axis", 0)), x.type.rank)
    given = node.attr("split") if node.opset < 13 else None
    if node.opset >= 13:
        given = node.integers(1)
    length = x.type.shape[axis]
    if given is not None:
        sizes = list(given)
    else:
        parts = int(node.attr("num_outputs", node.output_count))
        if parts < 1:
            node.fail(f"it splits into {parts} parts")
        chunk = -(-length // parts)
        if node.opset < 18 and length % parts:
            node.fail(f"axis {axis} of {x.type} does not split into {parts} equal parts")
        sizes = [min(chunk, length - i * chunk) for i in range(parts)]
    if any(s < 1 for s in sizes) or sum(sizes) != length:
        node.fail(f"sizes {sizes} do not split axis {axis} of {x.type} into parts that hold data")
    if len(sizes) == 1:
        return (x,)
    return out.emit(OP, [x], SplitAttrs(axis, tuple(sizes)))


def export(node: Node, out: ExportContext) -> None:
    sizes = out.constant("split", np.array(node.attrs.sizes, np.int64))
    names = [out.name(v) for v in node.outputs]
    out.node("Split", [out.name(node.inputs[0]), sizes], names, axis=node.attrs.axis)


CASES = (
    Case("channels", ((1, 9, 4, 5),), SplitAttrs(1, (3, 6))),
    Case("height_three", ((1, 2, 7, 3),), SplitAttrs(2, (1, 4, 2))),
    Case("vector", ((1, 11),), SplitAttrs(1, (5, 6))),
    Case("batch", ((4, 3),), SplitAttrs(0, (1, 3))),
)

OP = OpDef(
    name="split",
    attrs=SplitAttrs,
    infer=infer,
    reference=reference,
    integer=IntegerRule(lower=lower_movement, reference=reference, output="as_input"),
    macs=no_macs,
    onnx_import={"Split": import_split},
    onnx_export=export,
    cases=CASES,
    gradient=_gradient_rules.split,
)

"""Identity: another name for the same bytes. Only where a name is needed, as for a graph output."""

from __future__ import annotations

from collections.abc import Sequence

from ..ir.dtypes import Array
from ..ir.graph import Node
from ..ir.opdef import Absent, Case, IntegerRule, NoAttrs, OpDef, no_macs, same_type
from ._movement import lower_movement
from ._onnx import export_simple


def reference(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """The input; any dtype."""
    del node
    return (arrays[0],)


OP = OpDef(
    name="identity",
    attrs=NoAttrs,
    infer=same_type,
    reference=reference,
    integer=IntegerRule(lower=lower_movement, reference=reference, output="as_input"),
    macs=no_macs,
    onnx_import=Absent("the importer forwards the input of Identity and Dropout"),
    onnx_export=export_simple("Identity"),
    cases=(Case("image", ((1, 3, 4, 5),)), Case("vector", ((1, 7),)), Case("matrix", ((4, 3),))),
    is_view=True,
)

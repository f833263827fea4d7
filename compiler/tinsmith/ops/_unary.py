"""What all elementwise functions of one value share: their record, made from a row of a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..ir.dtypes import Array
from ..ir.graph import Node, Value
from ..ir.opdef import Absent, Case, IntegerRule, NoAttrs, OpDef, OutputQuant, no_macs, same_type
from ..ir.rewrite import Rewriter
from ..quant.arithmetic import lookup_table
from . import lookup
from ._gradient import GradientRule
from ._onnx import ExportContext, ImportContext, OnnxNode

Function = Callable[[Array, Any], Array]
ImportRule = Callable[[OnnxNode, ImportContext], Sequence[Value]]
ExportRule = Callable[[Node, ExportContext], None]


@dataclass(frozen=True)
class AlphaAttrs:
    """alpha: the slope or scale of the function, see its ONNX operator."""

    alpha: float = 1.0


@dataclass(frozen=True)
class Unary:
    """A row of the table.

    Attributes:
        onnx: the ONNX operator it is imported from and exported to.
        function: float64 array, attributes → float64 array.
        attrs: its attributes; `onnx_attrs` are those of the ONNX operator, with their defaults.
        imports, export: rules that differ from "one ONNX node with these attributes".
    """

    name: str
    onnx: str
    function: Function
    attrs: type = NoAttrs
    onnx_attrs: tuple[tuple[str, float], ...] = ()
    output: OutputQuant = "calibrated"
    data: tuple[float, float] = (-4.0, 4.0)
    imports: tuple[tuple[str, ImportRule], ...] = ()
    export: ExportRule | None = None
    case_attrs: tuple[Any, ...] = ()
    gradient: GradientRule | None = None


def _finite(y: Array) -> Array:
    """What is divided by a scale does not overflow."""
    most = float(np.finfo(np.float32).max)
    return np.nan_to_num(y, posinf=most, neginf=-most)


def record(row: Unary) -> OpDef:
    """The operator of a row. Its int8 meaning is a `lookup` of 256 entries."""

    def real(x: Array, attrs: Any) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(row.function(x.astype(np.float64), attrs), np.float64)

    def reference(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
        return (real(arrays[0], node.attrs).astype(np.float32),)

    def table_of(node: Node) -> Array:
        return lookup_table(lambda x: _finite(real(x, node.attrs)), node.x, node.y)

    def lower(node: Node, rewriter: Rewriter) -> None:
        constant = rewriter.constant(f"{node.name}.table", table_of(node))
        rewriter.emit(
            lookup.OP, [node.inputs[0], constant], origin=node.origin, outputs=node.outputs
        )

    def integer_reference(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
        return (table_of(node)[arrays[0].astype(np.int64) + 128],)

    def simple_import(node: OnnxNode, out: ImportContext) -> Sequence[Value]:
        given = {name: float(node.attr(name, default)) for name, default in row.onnx_attrs}
        return out.emit(out.op(row.name), [node.x(0)], row.attrs(**given))

    def simple_export(node: Node, out: ExportContext) -> None:
        attrs = {name: getattr(node.attrs, name) for name, _ in row.onnx_attrs}
        out.node(row.onnx, [out.name(node.inputs[0])], [out.name(node.outputs[0])], **attrs)

    imports = dict(row.imports)
    imports.setdefault(row.onnx, simple_import)
    variants = row.case_attrs or (row.attrs(),)
    return OpDef(
        name=row.name,
        attrs=row.attrs,
        infer=same_type,
        reference=reference,
        integer=IntegerRule(lower=lower, reference=integer_reference, output=row.output),
        macs=no_macs,
        onnx_import=imports,
        onnx_export=row.export or simple_export,
        cases=tuple(
            Case(f"variant{i}" if len(variants) > 1 else "map", ((1, 3, 7, 5),), a, data=row.data)
            for i, a in enumerate(variants)
        ),
        gradient=row.gradient or Absent("training does not go through it"),
    )

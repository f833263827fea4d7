"""What an operator's ONNX rules see. The importer and the exporter implement these protocols."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn, Protocol

from ..ir.dtypes import Array, Quant
from ..ir.graph import Node, Value
from ..ir.opdef import OpDef


class OnnxNode(Protocol):
    """One ONNX node being imported; `inputs` are IR values, None where one is absent."""

    @property
    def op_type(self) -> str: ...
    @property
    def inputs(self) -> Sequence[Value | None]: ...
    @property
    def output_count(self) -> int: ...
    @property
    def opset(self) -> int: ...

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute as int, float, str, tuple or array."""
        ...

    def x(self, index: int = 0) -> Value:
        """A required input; fails with a reason when absent."""
        ...

    def array(self, index: int) -> Array | None:
        """The constant behind an input; None when absent; fails when it is computed."""
        ...

    def integers(self, index: int) -> tuple[int, ...] | None:
        """The constant behind an input as whole numbers; None when absent; fails otherwise."""
        ...

    def axis(self, axis: int, rank: int) -> int:
        """The axis counted from the front; fails when a tensor of this rank has none such."""
        ...

    def fail(self, reason: str) -> NoReturn:
        """This node cannot be imported; the reason joins the list shown to the user."""
        ...


class ImportContext(Protocol):
    """Emits IR nodes for the ONNX node at hand."""

    def emit(
        self, op: OpDef, inputs: Sequence[Value], attrs: Any = None, suffix: str = ""
    ) -> tuple[Value, ...]: ...

    def constant(self, hint: str, array: Array, quant: Quant | None = None) -> Value: ...

    def array(self, value: Value) -> Array | None:
        """The array of a constant value, or None."""
        ...

    def is_weight(self, value: Value) -> bool:
        """Whether a value is constant: an initializer, or `dequantize` of one.

        `emit` folds at once what has only constant inputs; `transpose` and `reshape` of a
        dequantised constant act on the integers below. So a weight is transposed by emitting it.
        """
        ...

    def op(self, name: str) -> OpDef:
        """Another operator's record, to compose with."""
        ...


class ExportContext(Protocol):
    """Writes ONNX nodes for one IR node."""

    def node(
        self, op_type: str, inputs: Sequence[str], outputs: Sequence[str], **attrs: Any
    ) -> None: ...

    def name(self, value: Value) -> str: ...

    def constant(self, hint: str, array: Array) -> str: ...

    def temporary(self, hint: str) -> str: ...


def export_simple(op_type: str) -> Any:
    """An export rule for an operator that maps to one ONNX node without attributes."""

    def rule(node: Node, out: ExportContext) -> None:
        out.node(op_type, [out.name(v) for v in node.inputs], [out.name(v) for v in node.outputs])

    return rule

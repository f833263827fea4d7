"""What an operator must say about itself. One record per operator, in `ops/<name>.py`.

A field the operator has no answer for is `Absent("why")`, never silently missing:
`test_completeness` rejects the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from .dtypes import Array, Shape, TensorType

if TYPE_CHECKING:
    from .graph import Node
    from .rewrite import Rewriter


@dataclass(frozen=True)
class Absent:
    """A deliberate absence, with its reason."""

    reason: str


@dataclass(frozen=True)
class NoAttrs:
    """The attributes of an operator that has none."""


Infer: TypeAlias = Callable[[Sequence[TensorType], Any], Sequence[TensorType]]
Reference: TypeAlias = "Callable[[Node, Sequence[Array]], Sequence[Array]]"

# How the quantiser treats the operator's output:
#   "calibrated"  its own scale, from the calibration statistics
#   "as_input"    the scale and zero point of activation input 0 (data movement, max pooling)
#   "as_inputs"   one scale for all inputs and the output where the producers allow (concat)
#   a pair        a fixed (scale, zero_point): softmax, sigmoid, tanh
OutputQuant: TypeAlias = Literal["calibrated", "as_input", "as_inputs"] | tuple[float, int]


@dataclass(frozen=True)
class WeightInput:
    """Which input is an int8 weight, and along which of its axes it is quantised."""

    index: int
    axis: Callable[[Any], int | None]
    bias_index: int | None = None


class Lower(Protocol):
    """Rewrites one int8 node into its lowered form: its integer meaning with constants explicit.

    The node's activations and outputs are int8 with a quant; its weights int8, its bias int32.
    It emits through the rewriter one or more nodes that define `node.outputs`.
    """

    def __call__(self, node: Node, rewriter: Rewriter) -> None: ...


@dataclass(frozen=True)
class IntegerRule:
    """The int8 meaning of an operator."""

    lower: Lower
    reference: Reference | Absent
    output: OutputQuant = "calibrated"
    weight: WeightInput | None = None


@dataclass(frozen=True)
class Case:
    """A named test case; every oracle and every target runs all of them.

    inputs: shapes of the activations. params: shapes (random float32 weights) or arrays.
    attrs: in ONNX layout. data: the range activations are drawn from.
    """

    name: str
    inputs: tuple[Shape, ...]
    attrs: Any = NoAttrs()
    params: tuple[Shape | Array, ...] = ()
    data: tuple[float, float] = (-1.0, 1.0)
    float_only: str = ""  # the reason why there is no int8 form of this case


@dataclass(frozen=True, eq=False)
class OpDef:
    """One operator. Compared by identity: there is one record per operator.

    Attributes:
        name: as printed in `.tin`.
        attrs: frozen dataclass of its attributes, every field with a default.
        infer: types of the outputs from the types of the inputs; raises ValueError with a reason.
        reference: the float32 meaning in numpy; inputs and outputs are float32 arrays.
        integer: the int8 meaning.
        macs: multiply-accumulates of a node.
        onnx_import: ONNX operator type → importer rule (see `frontend/onnx_import.py`).
        onnx_export: writes the node as ONNX (see `frontend/onnx_export.py`).
        is_view: the output is the input's bytes under another shape.
        updates: (output, input) pairs: the output replaces the bytes of that input, which is state.
            A pair whose input or output a node lacks does not count.
        transient: inputs that are state of the moment: no store keeps them.
        cases: test cases.
    """

    name: str
    attrs: type
    infer: Infer
    reference: Reference
    integer: IntegerRule | Absent
    macs: Callable[[Node], int]
    onnx_import: Mapping[str, Callable[..., Any]] | Absent
    onnx_export: Callable[..., Any] | Absent
    cases: tuple[Case, ...] | Absent
    gradient: Callable[..., Any] | Absent = Absent("training does not go through it")
    is_view: bool = False
    updates: tuple[tuple[int, int], ...] = ()
    transient: tuple[int, ...] = ()

    def __repr__(self) -> str:
        return f"OpDef({self.name})"


def no_macs(node: Node) -> int:
    """For operators that only move, compare or look up."""
    del node
    return 0


def same_type(types: Sequence[TensorType], attrs: Any) -> Sequence[TensorType]:
    """Type rule of unary elementwise operators."""
    del attrs
    return (types[0],)

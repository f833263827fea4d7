"""authorize: a call of the secure world, which computes what this image does not hold.

It has no reference and no weights: its meaning is a graph of the secure image (docs/trust.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import InternalError
from ..ir.dtypes import Array, DType, Shape, TensorType
from ..ir.graph import Node
from ..ir.opdef import Absent, IntegerRule, OpDef, no_macs
from ..ir.rewrite import Rewriter

MAX_INPUTS = 3  # as many as a request of the gateway holds


@dataclass(frozen=True)
class AuthorizeAttrs:
    """call: number of the secure graph. shape, dtype: of its output."""

    call: int = 0
    shape: Shape = ()
    dtype: str = "int8"


def infer(types: Sequence[TensorType], attrs: AuthorizeAttrs) -> Sequence[TensorType]:
    if not 1 <= len(types) <= MAX_INPUTS:
        raise ValueError(f"takes 1 to {MAX_INPUTS} inputs, not {len(types)}")
    if attrs.call < 0:
        raise ValueError(f"there is no call {attrs.call}")
    return (TensorType(attrs.shape, DType(attrs.dtype)),)


def reference(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """Raises InternalError: only the secure image knows."""
    del arrays
    raise InternalError(f"authorize %{node.name} is computed by the secure image alone")


def lower(node: Node, rewriter: Rewriter) -> None:
    """Already lowered."""
    rewriter.keep(node)


_MADE_HERE = Absent("the trusted partition makes it; no ONNX operator is like it")

OP = OpDef(
    name="authorize",
    attrs=AuthorizeAttrs,
    infer=infer,
    reference=reference,
    integer=IntegerRule(
        lower=lower,
        reference=Absent("its meaning is the secret of the secure image"),
    ),
    macs=no_macs,
    onnx_import=_MADE_HERE,
    onnx_export=_MADE_HERE,
    cases=Absent("it needs a secure image: the tests of the partition have them"),
    gradient=Absent("the gradient would need the secret"),
)

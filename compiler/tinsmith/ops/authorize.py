"""Calls of the secure world, which computes what this image does not hold.

authorize(x…) {call} → y: of the forward pass.
authorize_gradient(dy [, learning_rate], states…) {call, given} → float32[n]: the gradients of what
the forward call was given, one after the other. The first `given` inputs go to the secure world.
The states are not read: naming them puts the call before every update, so that a step that is
refused changes nothing.

They have no reference and no weights: their meaning is a graph of the secure image (docs/trust.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..errors import InternalError
from ..ir.dtypes import Array, DType, Shape, TensorType
from ..ir.graph import Node
from ..ir.opdef import Absent, IntegerRule, OpDef, no_macs
from ..ir.rewrite import Rewriter
from ._gradient import training_op

MAX_INPUTS = 3  # as many as a request of the gateway holds


@dataclass(frozen=True)
class AuthorizeAttrs:
    """call: number of the secure graph. shape, dtype: of its output."""

    call: int = 0
    shape: Shape = ()
    dtype: str = "int8"


@dataclass(frozen=True)
class AuthorizeGradientAttrs:
    """call: number of the secure graph. given: inputs that it takes. elements: of the output."""

    call: int = 1
    given: int = 1
    elements: int = 1


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


def infer_gradient(
    types: Sequence[TensorType], attrs: AuthorizeGradientAttrs
) -> Sequence[TensorType]:
    if not 1 <= attrs.given <= min(len(types), MAX_INPUTS):
        raise ValueError(f"takes 1 to {MAX_INPUTS} inputs, not {attrs.given} of {len(types)}")
    if any(t.dtype is not DType.FLOAT32 for t in types[: attrs.given]):
        raise ValueError(f"takes float32 gradients, not {types[0]}")
    return (TensorType((attrs.elements,), DType.FLOAT32),)


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
    gradient=Absent("its gradient needs the secret: trust/learning_worlds.py divides it instead"),
)

GRADIENT = replace(
    training_op("authorize_gradient", infer_gradient, reference, AuthorizeGradientAttrs),
    cases=OP.cases,
)
OPS = (OP, GRADIENT)

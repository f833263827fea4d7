"""ONNX operator type → import rule: every operator's own, and what leaves no operator behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TypeAlias

import numpy as np
import onnx
from onnx import NodeProto

from ..ir.dtypes import DType
from ..ir.graph import Value
from ..ir.opdef import Absent
from ..ops import registry
from .import_context import Builder, NodeView
from .model_file import STANDARD_DOMAINS
from .qlinear import CONTRIB

Rule: TypeAlias = Callable[[NodeView, Builder], Sequence[Value]]
_CONTRIB_TWINS = ("QuantizeLinear", "DequantizeLinear")


@cache
def import_rules() -> Mapping[str, Rule]:
    """ONNX operator type → rule, from every operator's record."""
    rules = dict(WITHOUT_OPERATOR)
    for op in registry().values():
        if isinstance(op.onnx_import, Absent):
            continue
        for op_type, rule in op.onnx_import.items():
            rules.setdefault(op_type, rule)
    return rules


def rule_for(proto: NodeProto) -> Rule | None:
    """The rule of a node; None when it is not supported."""
    standard = proto.domain in STANDARD_DOMAINS
    if not standard and not (proto.domain == CONTRIB and proto.op_type in _CONTRIB_TWINS):
        return None
    return import_rules().get(proto.op_type)


def _pass_through(node: NodeView, out: Builder) -> Sequence[Value]:
    del out
    return (node.x(0),)


def _dropout(node: NodeView, out: Builder) -> Sequence[Value]:
    del out
    if node.output_count > 1:
        node.fail("the mask of Dropout is read; only inference is supported")
    training = node.array(2)
    if training is not None and bool(np.any(training)):
        node.fail("Dropout in training mode is not supported")
    return (node.x(0),)


def _cast(node: NodeView, out: Builder) -> Sequence[Value]:
    """To float32 only: of float32 nothing, of an integer input a dequantize with scale 1."""
    x = node.x(0)
    if node.attr("to") != onnx.TensorProto.FLOAT:
        node.fail("casts of activations to anything but float32 are not supported")
    if x.type.dtype is DType.FLOAT32:
        return (x,)
    if x.type.quant is None or x.type.quant.scale != (1.0,):
        node.fail(f"it casts {x.type}, which has a scale")
    return out.emit(out.op("dequantize"), [x])


# What is read but leaves no operator of its own behind.
WITHOUT_OPERATOR: Mapping[str, Rule] = {
    "Identity": _pass_through,
    "Dropout": _dropout,
    "Cast": _cast,
}

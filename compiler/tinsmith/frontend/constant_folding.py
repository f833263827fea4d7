"""Evaluating ONNX nodes whose inputs are constant: shape arithmetic, Constant, stored weights."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import AttributeProto, NodeProto
from onnx.reference import ReferenceEvaluator

from ..ir.dtypes import Array, TensorType
from .model_file import STANDARD_DOMAINS, tensor_array

_NEVER = frozenset(
    {
        "DequantizeLinear",  # its integers must survive
        "RandomNormal",
        "RandomUniform",
        "RandomNormalLike",
        "RandomUniformLike",
        "Bernoulli",
        "Multinomial",
    }
)
_MAX_ELEMENTS = 1 << 26  # a ConstantOfShape or Expand beyond this is a mistake, not a weight
_VALUE_ATTRIBUTES = ("value_float", "value_int", "value_floats", "value_ints")


def has_subgraph(node: NodeProto) -> bool:
    return any(a.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for a in node.attribute)


def foldable(node: NodeProto) -> bool:
    """Whether the node is one that `fold_node` evaluates, given constant inputs."""
    return (
        node.domain in STANDARD_DOMAINS
        and node.op_type not in _NEVER
        and not has_subgraph(node)
        and onnx.defs.has(node.op_type)
    )


def fold_node(node: NodeProto, arrays: dict[str, Array], opset: int) -> bool:
    """Evaluate the node if its inputs are all in `arrays`; its outputs join. True if it did."""
    if not foldable(node) or any(n and n not in arrays for n in node.input):
        return False
    if node.op_type == "Constant":
        made = _constant(node)
        if made is None:
            return False
        arrays[node.output[0]] = made
        return True
    if _is_huge(node, arrays):
        return False
    try:
        session = ReferenceEvaluator(node, opsets={"": opset})
        outputs = session.run(None, {n: arrays[n] for n in node.input if n})
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError):
        return False  # the node is then imported like any other, and its rule says what is wrong
    arrays.update(
        {n: np.asarray(a) for n, a in zip((n for n in node.output if n), outputs, strict=False)}
    )
    return True


def fold_shape(node: NodeProto, type_: TensorType, arrays: dict[str, Array]) -> bool:
    """Shape and Size of a tensor whose type is known."""
    if node.op_type == "Size":
        arrays[node.output[0]] = np.array(type_.elements, np.int64)
        return True
    if node.op_type != "Shape":
        return False
    bounds = {a.name: a.i for a in node.attribute}
    dims = type_.shape[bounds.get("start", 0) : bounds.get("end")]
    arrays[node.output[0]] = np.array(dims, np.int64)
    return True


def _constant(node: NodeProto) -> Array | None:
    for attribute in node.attribute:
        if attribute.name == "value":
            return tensor_array(attribute.t, f"Constant {node.output[0]!r}")
        if attribute.name in _VALUE_ATTRIBUTES:
            dtype = np.float32 if "float" in attribute.name else np.int64
            return np.array(onnx.helper.get_attribute_value(attribute), dtype)
    return None


def _is_huge(node: NodeProto, arrays: dict[str, Array]) -> bool:
    if node.op_type == "ConstantOfShape":
        return float(np.prod(arrays[node.input[0]].astype(np.float64))) > _MAX_ELEMENTS
    if node.op_type in ("Expand", "Tile"):
        target = arrays[node.input[1]].astype(np.float64)
        return float(np.prod(target)) * arrays[node.input[0]].size > _MAX_ELEMENTS**1.5
    return False

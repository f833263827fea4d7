"""Evaluating ONNX nodes whose inputs are constant: shape arithmetic, Constant, stored weights."""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import AttributeProto, NodeProto
from onnx import shape_inference as inference
from onnx.reference import ReferenceEvaluator

from ..errors import ImportFailure
from ..ir.dtypes import Array, TensorType
from .model_file import MAX_BYTES, STANDARD_DOMAINS, node_label, tensor_array

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
_MAX_ELEMENTS = 1 << 24  # a constant that is computed beyond this is a mistake, not a weight
_SMALL = 64  # elements: sizes and bounds
_MANY = 1 << 20  # elements; constants from here on count together
_MALFORMED = (ArithmeticError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)
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
    """Evaluate the node if its inputs are all in `arrays`; its outputs join. True if it did.

    Raises ImportFailure for a constant of an absurd size.
    """
    if not foldable(node) or any(n and n not in arrays for n in node.input):
        return False
    if node.op_type == "Constant":
        made = _constant(node)
        if made is None:
            return False
        arrays[node.output[0]] = made
        return True
    _check_size(node, arrays, opset)
    try:
        session = ReferenceEvaluator(node, opsets={"": opset})
        outputs = session.run(None, {n: arrays[n] for n in node.input if n})
    except _MALFORMED:
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


def _check_size(node: NodeProto, arrays: dict[str, Array], opset: int) -> None:
    """Before anything is computed: by onnx's own shape inference, which sees the constants."""
    elements = _elements(node, arrays, opset)
    if elements < _MANY:
        return
    together = 8 * elements + sum(a.nbytes for a in arrays.values() if a.size >= _MANY)
    if elements > _MAX_ELEMENTS or together > MAX_BYTES:
        raise ImportFailure(
            f"it makes a constant of {elements:,} elements",
            node=f"{node.op_type} {node_label(node)!r}",
            expected=f"at most {_MAX_ELEMENTS:,} elements, and {MAX_BYTES:,} B of large constants",
            hint="the sizes that it computes with are wrong, or the file is damaged",
        )


def _elements(node: NodeProto, arrays: dict[str, Array], opset: int) -> int:
    """Of the largest output; 0 where only its values would tell, which are no more than given."""
    given = {n: arrays[n] for n in node.input if n}
    if node.op_type == "Range":  # its inference takes no int64 beyond 2^31
        first, last, step = (float(given[n].reshape(-1)[0]) for n in node.input)
        return int(max(0.0, (last - first) / step)) if step and np.isfinite(last - first) else 0
    try:
        types = {
            n: onnx.helper.make_tensor_type_proto(
                onnx.helper.np_dtype_to_tensor_dtype(a.dtype), a.shape
            )
            for n, a in given.items()
        }
        data = {n: onnx.numpy_helper.from_array(a) for n, a in given.items() if a.size <= _SMALL}
        made = inference.infer_node_outputs(
            onnx.defs.get_schema(node.op_type, opset),
            node,
            types,
            data,
            opset_imports=[onnx.helper.make_opsetid("", opset)],
        )
    except (*_MALFORMED, onnx.checker.ValidationError):
        return 0  # the node is malformed: evaluating it or its rule says how
    shapes = [[d.dim_value for d in t.tensor_type.shape.dim] for t in made.values()]
    return max((math.prod(shape) for shape in shapes), default=0)

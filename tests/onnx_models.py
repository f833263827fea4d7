"""Small ONNX models for the importer's tests, written with onnx.helper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from tinsmith.ir.dtypes import Array

FLOAT, INT8, UINT8, INT64 = (
    TensorProto.FLOAT,
    TensorProto.INT8,
    TensorProto.UINT8,
    TensorProto.INT64,
)


def info(
    name: str, shape: Sequence[int | str | None] | None, element: int = FLOAT
) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, element, shape)


def node(op_type: str, inputs: str, outputs: str, **attrs: Any) -> NodeProto:
    """Names separated by spaces; `_` is an absent input."""
    names = ["" if n == "_" else n for n in inputs.split()]
    name = attrs.pop("name", f"the_{op_type.lower()}")
    return helper.make_node(op_type, names, outputs.split(), name, **attrs)


def model(
    nodes: Sequence[NodeProto],
    inputs: Sequence[ValueInfoProto],
    outputs: Sequence[ValueInfoProto],
    constants: Mapping[str, Array] | None = None,
    *,
    opset: int = 17,
    domains: Sequence[str] = (),
) -> ModelProto:
    tensors = [numpy_helper.from_array(a, name) for name, a in (constants or {}).items()]
    for i, made in enumerate(nodes):  # onnxruntime wants names to be unique
        if made.name in {n.name for n in nodes[:i]}:
            made.name += f"_{i}"
    graph = helper.make_graph(nodes, "net", inputs, outputs, tensors)
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def conv_model(**changes: Any) -> ModelProto:
    """x [1,3,8,8] → Conv 3×3 → Relu → y [1,4,6,6]."""
    rng = np.random.default_rng(1)
    constants = {
        "w": rng.normal(size=(4, 3, 3, 3)).astype(np.float32),
        "b": rng.normal(size=4).astype(np.float32),
    }
    constants.update(changes.pop("constants", {}))
    nodes = [node("Conv", "x w b", "c"), node("Relu", "c", "y")]
    return model(
        changes.pop("nodes", nodes),
        changes.pop("inputs", [info("x", [1, 3, 8, 8])]),
        changes.pop("outputs", [info("y", [1, 4, 6, 6])]),
        constants,
        **changes,
    )


def qdq_dense(unsigned: bool, per_channel: bool) -> ModelProto:
    """MatMul and Add in QDQ form: x [1,4] → y [1,3], int8 or uint8."""
    rng = np.random.default_rng(11)
    dtype = np.uint8 if unsigned else np.int8
    wz = np.full(3 if per_channel else (), 128 if unsigned else 0, dtype)
    ws = rng.uniform(0.01, 0.02, wz.shape).astype(np.float32)
    constants = {
        "s": np.array(0.05, np.float32),
        "z": np.array(131 if unsigned else 3, dtype),
        "w": rng.integers(1 if unsigned else -127, 256 if unsigned else 128, (4, 3)).astype(dtype),
        "ws": np.asarray(ws),
        "wz": wz,
        "b": rng.integers(-500, 500, 3).astype(np.int32),
        "bs": np.asarray(np.float32(0.05) * ws),
    }
    axis = {"axis": 1} if per_channel else {}
    nodes = [
        node("DequantizeLinear", "x s z", "xd"),
        node("DequantizeLinear", "w ws wz", "wd", **axis),
        node("DequantizeLinear", "b bs", "bd", **({"axis": 0} if per_channel else {})),
        node("MatMul", "xd wd", "m"),
        node("Add", "m bd", "a"),
        node("QuantizeLinear", "a s z", "y"),
    ]
    element = UINT8 if unsigned else INT8
    return model(nodes, [info("x", [1, 4], element)], [info("y", [1, 3], element)], constants)

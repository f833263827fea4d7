"""A small ONNX writer for operator tests, apart from the compiler's own exporter."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from tinsmith.ir.dtypes import Array
from tinsmith.ir.graph import Graph, Node, Value
from tinsmith.ir.opdef import Absent

OPSET = 17
_IR_VERSION = 8


class Writer:
    """Implements `ops._onnx.ExportContext`."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.count = 0

    def node(self, op_type: str, inputs: Any, outputs: Any, **attrs: Any) -> None:
        self.nodes.append(helper.make_node(op_type, list(inputs), list(outputs), **attrs))

    def name(self, value: Value) -> str:
        return value.name

    def constant(self, hint: str, array: Array) -> str:
        name = self.temporary(hint)
        self.initializers.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def temporary(self, hint: str) -> str:
        self.count += 1
        return f"{hint}_{self.count}"


def onnx_model(graph: Graph) -> onnx.ModelProto:
    """The graph as checked ONNX."""
    writer = Writer()
    for value, array in graph.initializers.items():
        writer.initializers.append(numpy_helper.from_array(array, value.name))
    for node in graph.nodes:
        _write(node, writer)
    proto = helper.make_graph(
        writer.nodes,
        graph.name,
        [_info(v) for v in graph.inputs],
        [_info(v) for v in graph.outputs],
        writer.initializers,
    )
    opset = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(proto, opset_imports=opset, ir_version=_IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    return model


def run_onnx(model: onnx.ModelProto, inputs: list[Array]) -> list[Array]:
    """The outputs onnxruntime computes, without graph optimisations."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [i.name for i in session.get_inputs()]
    return list(session.run(None, dict(zip(names, inputs, strict=True))))


def _write(node: Node, writer: Writer) -> None:
    assert not isinstance(node.op.onnx_export, Absent)
    node.op.onnx_export(node, writer)


def _info(value: Value) -> onnx.ValueInfoProto:
    element = helper.np_dtype_to_tensor_dtype(value.type.dtype.numpy)
    return helper.make_tensor_value_info(value.name, element, value.type.shape)

"""A FLOAT graph in ONNX layout → ONNX, with QuantizeLinear/DequantizeLinear where it has them.

The operators' export rules write opset 17; a node that needs a newer one raises the model's opset.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from .. import __version__
from ..errors import CompileError, InternalError
from ..ir.dtypes import Array
from ..ir.graph import Graph, Node, Stage, Value
from ..ir.opdef import Absent

OPSET = 17
_IR_VERSION = 8  # what onnxruntime has read since opset 17
_AXES_AS_INPUT = 18  # ReduceMean takes its axes as an input since then


def export_model(graph: Graph, *, opset: int = OPSET) -> ModelProto:
    """The graph as a checked ONNX model; names of inputs, outputs and values are kept.

    opset: at least this one. Raises InternalError for a graph that is not FLOAT in ONNX layout, and
    CompileError for an operator that ONNX has no form of.
    """
    if graph.stage is not Stage.FLOAT or any(graph.input_layouts) or any(graph.output_layouts):
        raise InternalError(
            "only a FLOAT graph in ONNX layout can be exported",
            expected="the graph before legalize_layout",
        )
    writer = _Writer(graph)
    for node in graph.nodes:
        writer.write(node)
    opset = max([opset, *(_required(n) for n in writer.nodes)])
    if opset >= _AXES_AS_INPUT:
        writer.move_axes()
    opsets = [helper.make_opsetid("", opset)]
    proto = helper.make_graph(
        writer.nodes,
        graph.name,
        [_info(v) for v in graph.inputs],
        [_info(v) for v in graph.outputs],
        writer.initializers(),
    )
    model = helper.make_model(
        proto,
        opset_imports=opsets,
        ir_version=max(_IR_VERSION, helper.find_min_ir_version_for(opsets)),
        producer_name="tinsmith",
        producer_version=__version__,
    )
    onnx.checker.check_model(model)
    return model


class _Writer:
    """Implements `ops._onnx.ExportContext`."""

    def __init__(self, graph: Graph) -> None:
        self.nodes: list[NodeProto] = []
        self._graph = graph
        self._constants: dict[str, Array] = {}
        self._names = {v.name for v in graph.values}
        self._label = ""

    def write(self, node: Node) -> None:
        if getattr(node.attrs, "layout", "NCHW") != "NCHW":
            raise InternalError(f"{node.op.name} %{node.name} is not in ONNX layout")
        if isinstance(node.op.onnx_export, Absent):
            raise CompileError(
                f"{node.op.name} cannot be written as ONNX: {node.op.onnx_export.reason}",
                node=str(node.origin),
            )
        self._label = node.name
        node.op.onnx_export(node, self)

    def node(
        self, op_type: str, inputs: Sequence[str], outputs: Sequence[str], **attrs: Any
    ) -> None:
        count = sum(n.name.split("#")[0] == self._label for n in self.nodes[-8:])
        name = f"{self._label}#{count}" if count else self._label
        self.nodes.append(helper.make_node(op_type, inputs, outputs, name, **attrs))

    def name(self, value: Value) -> str:
        return value.name

    def constant(self, hint: str, array: Array) -> str:
        name = self.temporary(hint)
        self._constants[name] = np.asarray(array)
        return name

    def temporary(self, hint: str) -> str:
        stem = name = f"{self._label}.{hint}"
        count = 0
        while name in self._names:
            count += 1
            name = f"{stem}.{count}"
        self._names.add(name)
        return name

    def move_axes(self) -> None:
        """ReduceMean of opset 18: the axes attribute becomes an input."""
        for node in self.nodes:
            axes = [a for a in node.attribute if a.name == "axes"]
            if node.op_type == "ReduceMean" and axes:
                self._label = node.name
                node.input.append(self.constant("axes", np.array(axes[0].ints, np.int64)))
                node.attribute.remove(axes[0])

    def initializers(self) -> list[TensorProto]:
        read = {name for n in self.nodes for name in n.input}
        stored = {v.name: a for v, a in self._graph.initializers.items()} | self._constants
        return [numpy_helper.from_array(a, name) for name, a in stored.items() if name in read]


def _required(node: NodeProto) -> int:
    """The opset a node needs beyond the default."""
    if node.op_type == "Gelu":
        return 20
    if node.op_type == "AveragePool" and any(a.name == "dilations" for a in node.attribute):
        return 19
    return OPSET


def _info(value: Value) -> ValueInfoProto:
    element = helper.np_dtype_to_tensor_dtype(value.type.dtype.numpy)
    return helper.make_tensor_value_info(value.name, element, value.type.shape)

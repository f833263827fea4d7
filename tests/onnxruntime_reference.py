"""Comparing with onnxruntime: whole models, and operator by operator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper

from tinsmith.ir.dtypes import Array
from tinsmith.ir.graph import Graph, Value
from tinsmith.ir.interpret import evaluate
from tinsmith.pass_manager import PassContext
from tinsmith.pipeline import canonical
from tinsmith.quant.samples import match_samples


def import_float(model: Path | bytes) -> Graph:
    """The FLOAT graph after the passes that do not depend on quantisation."""
    return canonical(model, PassContext())


def session(model: onnx.ModelProto) -> ort.InferenceSession:
    """onnxruntime without fusions: it computes what the QDQ nodes say."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def onnx_values(model: onnx.ModelProto, feed: dict[str, Array], names: set[str]) -> dict:
    """Some of the tensors onnxruntime computes on the way."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    made = [o for n in shown.graph.node for o in n.output if o in names]
    outputs = {o.name for o in shown.graph.output}
    new = [helper.make_empty_tensor_value_info(n) for n in made if n not in outputs]
    shown.graph.output.extend(new)
    return dict(zip(made, session(shown).run(made, feed), strict=True))


def assert_every_operator_within_one_lsb(
    integer: Graph, model: onnx.ModelProto, feed: dict[str, Array]
) -> int:
    """Each int8 node, fed what onnxruntime fed its own, gives what it gave ±1. How many nodes."""
    names = {v.name for n in integer.nodes for v in n.outputs}
    theirs = onnx_values(model, feed, names)
    fed = dict(zip(integer.inputs, match_samples(feed, integer), strict=True))

    def value(v: Value) -> Array | None:
        if v in integer.initializers:
            return integer.initializers[v]
        if v in fed:
            return fed[v][0]
        if v.name not in theirs:
            return None
        array = theirs[v.name]
        if array.dtype == np.float32:
            real = np.rint(array / np.float32(v.type.scale)) + v.type.zero_point
            array = np.clip(real, -128, 127).astype(np.int8)
        return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array

    checked = 0
    for node in integer.nodes:
        arrays, want = [value(v) for v in node.inputs], value(node.outputs[0])
        if want is None or any(a is None for a in arrays):
            continue
        got = evaluate(node, [a for a in arrays if a is not None])[0]
        error = np.abs(got.astype(int) - want.astype(int)).max()
        assert error <= 1, f"{node.op.name} {node.name} differs by {error}"
        checked += 1
    return checked


def top1(outputs: Array) -> Array:
    return outputs.reshape(len(outputs), -1).argmax(axis=1)

"""Random float ONNX models through every pass: float32 against onnxruntime, int8 against float,
and both in C against the oracle."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from tinsmith.ir.dtypes import Array
from tinsmith.ir.graph import Graph
from tinsmith.ir.interpret import run
from tinsmith.pass_manager import PassContext
from tinsmith.pipeline import canonical, lower
from tinsmith.quant.arithmetic import dequantize_array, quantize_array

from .host_c import Job, program, run_jobs

Draw = Callable[[st.SearchStrategy[Any]], Any]
STEPS = (
    "conv",
    "depthwise",
    "grouped",
    "batch_norm",
    "relu",
    "clip",
    "sigmoid",
    "add",
    "add_constant",
    "concat",
    "split",
    "max_pool",
    "average_pool",
    "pad",
    "slice",
    "resize",
    "transpose_twice",
    "squeeze_excite",
)


class Model:
    """An ONNX graph under construction; `shape` is that of the last value, NCHW."""

    def __init__(self, name: str, seed: int, shape: Sequence[int]) -> None:
        self.name, self.shape, self.last = name, list(shape), "x"
        self.input_shape = tuple(shape)
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def constant(self, array: Array) -> str:
        name = f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def normal(self, *shape: int, scale: float = 1.0) -> str:
        return self.constant(self.rng.normal(0, scale, shape).astype(np.float32))

    def add(self, op: str, inputs: Sequence[str], outputs: int = 1, **attrs: Any) -> list[str]:
        names = [f"v{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, f"n{len(self.nodes)}", **attrs))
        return names

    def then(self, op: str, *inputs: str, **attrs: Any) -> None:
        (self.last,) = self.add(op, [self.last, *inputs], **attrs)

    def conv(
        self, out: int, kernel: int, groups: int = 1, stride: int = 1, same: bool = True
    ) -> None:
        channels, height, width = self.shape[1:]
        kernel = min(kernel, height, width)
        pad = kernel // 2 if same else 0
        fan_in = kernel * kernel * channels // groups
        w = self.normal(out, channels // groups, kernel, kernel, scale=fan_in**-0.5)
        attrs = {"strides": [stride] * 2, "pads": [pad] * 4, "group": groups}
        self.then("Conv", w, self.normal(out, scale=0.2), **attrs)
        sizes = [(n + 2 * pad - kernel) // stride + 1 for n in (height, width)]
        self.shape = [self.shape[0], out, *sizes]

    def pool(self, op: str, kernel: int, stride: int) -> None:
        kernel = min(kernel, *self.shape[2:])
        self.then(op, kernel_shape=[kernel] * 2, strides=[stride] * 2)
        self.shape[2:] = [(n - kernel) // stride + 1 for n in self.shape[2:]]

    def proto(self, outputs: Sequence[str]) -> onnx.ModelProto:
        floats = onnx.TensorProto.FLOAT
        graph = helper.make_graph(
            self.nodes,
            self.name,
            [helper.make_tensor_value_info("x", floats, self.input_shape)],
            [helper.make_tensor_value_info(name, floats, None) for name in outputs],
            self.weights,
        )
        opset = [helper.make_opsetid("", 17)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=8)
        return onnx.shape_inference.infer_shapes(model)


def _step(m: Model, kind: str, draw: Draw) -> None:
    channels = m.shape[1]
    if kind == "conv":
        stride, same = draw(st.integers(1, 2)), draw(st.booleans())
        m.conv(draw(st.integers(1, 8)), draw(st.sampled_from([1, 3])), 1, stride, same)
    elif kind == "depthwise":
        m.conv(channels, draw(st.sampled_from([1, 3, 5])), channels, draw(st.integers(1, 2)))
    elif kind == "grouped":
        groups = 2 if channels % 2 == 0 else 1
        m.conv(groups * draw(st.integers(1, 3)), 3, groups)
    elif kind == "batch_norm":
        variance = m.constant(m.rng.uniform(0.5, 2, channels).astype(np.float32))
        scale = m.constant(m.rng.uniform(0.5, 1.5, channels).astype(np.float32))
        m.then("BatchNormalization", scale, m.normal(channels), m.normal(channels), variance)
    elif kind == "clip":
        low, high = (m.constant(np.array(v, np.float32)) for v in (-0.5, 1.5))
        m.then("Clip", low, high)
    elif kind in ("relu", "sigmoid"):
        m.then(kind.capitalize())
    elif kind == "add":
        before, shape = m.last, list(m.shape)
        m.conv(channels, 1)
        m.shape = shape
        m.then("Add", before)
    elif kind == "add_constant":
        m.then("Add", m.normal(1, channels, 1, 1))
    elif kind in ("concat", "split"):
        _fork(m, kind, draw)
    elif kind in ("max_pool", "average_pool"):
        op = "MaxPool" if kind == "max_pool" else "AveragePool"
        m.pool(op, draw(st.integers(1, 3)), draw(st.integers(1, 2)))
    else:
        _move(m, kind, draw)


def _fork(m: Model, kind: str, draw: Draw) -> None:
    channels = m.shape[1]
    if kind == "concat":
        before, shape = m.last, list(m.shape)
        m.conv(draw(st.integers(1, 4)), 1)
        m.then("Concat", before, axis=1)
        m.shape = [shape[0], channels + m.shape[1], *shape[2:]]
    elif channels > 1:
        sizes = m.constant(np.array([1, channels - 1], np.int64))
        first, second = m.add("Split", [m.last, sizes], 2, axis=1)
        (high,) = m.add("Relu", [second])
        (m.last,) = m.add("Concat", [high, first], axis=1)


def _move(m: Model, kind: str, draw: Draw) -> None:
    if kind == "pad":
        pads = [0, 0, *draw(st.tuples(*[st.integers(0, 2)] * 2)), 0, 0, 1, 0]
        m.then("Pad", m.constant(np.array(pads, np.int64)))
        m.shape[2] += pads[2] + pads[6]
        m.shape[3] += pads[3] + pads[7]
    elif kind == "slice":
        starts, ends = [0, m.shape[3] // 2], [m.shape[1], m.shape[3]]
        lists = (starts, ends, [1, 3])
        m.then("Slice", *(m.constant(np.array(v, np.int64)) for v in lists))
        m.shape[3] -= m.shape[3] // 2
    elif kind == "resize":
        scales = m.constant(np.array([1, 1, 2, 1], np.float32))
        mode = {"mode": "nearest", "nearest_mode": "floor"}
        m.then("Resize", "", scales, coordinate_transformation_mode="asymmetric", **mode)
        m.shape[2] *= 2
    elif kind == "transpose_twice":
        m.then("Transpose", perm=[0, 2, 3, 1])
        m.then("Relu")
        m.then("Transpose", perm=[0, 3, 1, 2])
    elif kind == "squeeze_excite":
        before, shape = m.last, list(m.shape)
        m.then("GlobalAveragePool")
        m.shape = [*shape[:2], 1, 1]
        m.conv(shape[1], 1)
        m.then("Sigmoid")
        m.then("Mul", before)
        m.shape = shape


@st.composite
def models(draw: Draw, name: str) -> onnx.ModelProto:
    shape = (1, draw(st.integers(1, 6)), draw(st.integers(2, 9)), draw(st.integers(2, 9)))
    m = Model(name, draw(st.integers(0, 2**16)), shape)
    m.conv(draw(st.integers(2, 6)), 3)
    outputs: list[str] = []
    for kind in draw(st.lists(st.sampled_from(STEPS), min_size=2, max_size=7)):
        _step(m, kind, draw)
        if draw(st.integers(0, 9)) == 0:
            outputs.append(m.last)
    ending = draw(st.sampled_from(["map", "dense", "mean"]))
    if ending == "mean":
        m.then("ReduceMean", axes=[2, 3], keepdims=0)
    elif ending == "dense":
        m.then("Flatten")
        features = int(np.prod(m.shape[1:]))
        m.then("Gemm", m.normal(features, 4, scale=features**-0.5), m.normal(4))
        m.then("Softmax", axis=1)
    return m.proto(list(dict.fromkeys([*outputs, m.last])))


def to_device(graph: Graph, arrays: Sequence[Array]) -> list[Array]:
    """ONNX inputs → the graph's, transposed and quantised."""
    result: list[Array] = []
    for i, (value, array) in enumerate(zip(graph.inputs, arrays, strict=True)):
        layout = graph.input_layouts[i] if i < len(graph.input_layouts) else None
        moved = array if layout is None else array.transpose(layout)
        result.append(quantize_array(moved, value.type) if value.type.quant else moved)
    return [np.ascontiguousarray(a) for a in result]


def from_device(graph: Graph, arrays: Sequence[Array]) -> list[Array]:
    """The graph's outputs → reals in ONNX layout."""
    result: list[Array] = []
    for i, (value, array) in enumerate(zip(graph.outputs, arrays, strict=True)):
        layout = graph.output_layouts[i] if i < len(graph.output_layouts) else None
        real = dequantize_array(array, value.type) if value.type.quant else array
        result.append(real if layout is None else real.transpose(tuple(np.argsort(layout))))
    return result


# Without shrinking: every example compiles C.
@settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
)
@given(st.tuples(*(models(f"net{i}") for i in range(3))))
def test_random_models(protos: tuple[onnx.ModelProto, ...]) -> None:
    jobs: list[Job] = []
    options = onnxruntime.SessionOptions()  # its fusion of Pad into pooling fails on some models
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    for proto in protos:
        x = np.random.default_rng(9).normal(0, 1, (16, *_input_shape(proto))).astype(np.float32)
        session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
        wanted = [session.run(None, {"x": sample}) for sample in x[:2]]
        floats = lower(canonical(proto, PassContext()), "float32", None, "auto", PassContext())
        for sample, want in zip(x, wanted, strict=False):
            got = from_device(floats, run(floats, to_device(floats, [sample])))
            for g, w in zip(got, want, strict=True):
                np.testing.assert_allclose(g, w, rtol=1e-4, atol=1e-5)
        context = PassContext()
        int8 = lower(canonical(proto, context), "int8", {"x": x[:, 0]}, "minmax", context)
        for sample, want in zip(x, wanted, strict=False):
            _near(int8, run(int8, to_device(int8, [sample])), want)
        for graph, kind in ((floats, "f32"), (int8, "s8")):
            named = Graph(**{**vars_of(graph), "name": f"{graph.name}_{kind}"})
            jobs.append(Job(program(named), [to_device(named, [s]) for s in x[:2]]))
    with tempfile.TemporaryDirectory() as folder:
        results = run_jobs(Path(folder), jobs)
    for job, rows in zip(jobs, results, strict=True):
        graph = job.program.graph
        for sample, outputs in zip(job.samples, rows, strict=True):
            for got, want in zip(outputs, run(graph, sample), strict=True):
                if want.dtype == np.int8:
                    np.testing.assert_array_equal(got, want)
                else:
                    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def vars_of(graph: Graph) -> dict[str, Any]:
    fields = ("inputs", "outputs", "initializers", "nodes", "stage")
    return {f: getattr(graph, f) for f in (*fields, "input_layouts", "output_layouts")}


def _input_shape(proto: onnx.ModelProto) -> tuple[int, ...]:
    return tuple(d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim)


def _near(graph: Graph, got: Sequence[Array], want: Sequence[Array]) -> None:
    """int8 follows float: on average the error is small beside the signal, or a few steps."""
    for value, g, w in zip(graph.outputs, from_device(graph, got), want, strict=True):
        allowed = max(0.12 * float(np.abs(w).max()), 8 * value.type.scale)
        assert float(np.abs(g - w).mean()) < allowed, value.name

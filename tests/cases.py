"""Operator cases as graphs: float32 and lowered int8, one per case or one per operator.

Quantisation here is the test's own (min-max over seeded data), apart from the compiler's passes.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tinsmith.ir.dtypes import Array, DType, Quant, Shape, TensorType
from tinsmith.ir.graph import Graph, Node, Origin, Stage, Value
from tinsmith.ir.interpret import run
from tinsmith.ir.opdef import Absent, Case, NoAttrs, OpDef
from tinsmith.ir.rewrite import Rewriter
from tinsmith.ops import registry
from tinsmith.quant.arithmetic import dequantize_array, quantize_array

_CALIBRATION_SAMPLES = 4


def cases_of(op: OpDef, dtype: DType = DType.FLOAT32) -> list[Case]:
    """The cases that have a form of this element type."""
    if isinstance(op.cases, Absent):
        return []
    if dtype is DType.FLOAT32:
        return [] if isinstance(op.onnx_export, Absent) else list(op.cases)
    if isinstance(op.integer, Absent):
        return []
    return [c for c in op.cases if not c.float_only]


def all_cases(dtype: DType) -> list[tuple[OpDef, Case]]:
    return [(op, case) for op in registry().values() for case in cases_of(op, dtype)]


def case_graph(op: OpDef, case: Case, dtype: DType = DType.INT8) -> Graph:
    """One case as a graph of one operator: FLOAT in NHWC, or QUANTIZED and lowered."""
    if dtype is DType.FLOAT32:
        return to_nhwc(onnx_layout_graph(op, case))
    return lowered(quantized(to_nhwc(onnx_layout_graph(op, case)), case))


def op_graph(op: OpDef, dtype: DType = DType.INT8) -> Graph:
    """All cases of an operator side by side in one graph with many inputs and outputs."""
    graphs = [case_graph(op, case, dtype) for case in cases_of(op, dtype)]
    initializers = {v: a for g in graphs for v, a in g.initializers.items()}
    return Graph(
        op.name,
        tuple(v for g in graphs for v in g.inputs),
        tuple(v for g in graphs for v in g.outputs),
        initializers,
        tuple(n for g in graphs for n in g.nodes),
        Stage.FLOAT if dtype is DType.FLOAT32 else Stage.QUANTIZED,
    )


def case_inputs(graph: Graph, seed: int = 0) -> list[Array]:
    """Random inputs of a case or operator graph.

    float32: uniform over the range of the case. int8: even seeds the full range, odd ones only its
    ends and the zero point, so that sums and outputs saturate.
    """
    rng = np.random.default_rng(seed)
    arrays: list[Array] = []
    for value in graph.inputs:
        shape = value.type.shape
        if value.type.dtype is DType.FLOAT32:
            low, high = _range_of(graph, value)
            arrays.append(rng.uniform(low, high, shape).astype(np.float32))
        elif seed % 2 == 0:
            arrays.append(rng.integers(-128, 128, shape, np.int8))
        else:
            corners = np.array([-128, 127, value.type.zero_point, 0, -128, 127], np.int8)
            arrays.append(rng.choice(corners, shape))
    return arrays


def onnx_layout_graph(op: OpDef, case: Case) -> Graph:
    """The case as it is written: float32, ONNX layout. Values are named `<case>.x0`, `<case>.y`."""
    rng = np.random.default_rng(zlib.crc32(f"{op.name}.{case.name}".encode()))
    inputs = [
        Value(f"{case.name}.x{i}", TensorType(tuple(shape), DType.FLOAT32))
        for i, shape in enumerate(case.inputs)
    ]
    initializers: dict[Value, Array] = {}
    for i, param in enumerate(case.params):
        array = param if isinstance(param, np.ndarray) else rng.normal(0, 0.4, param)
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        type_ = TensorType(array.shape, DType(array.dtype.name))
        initializers[Value(f"{case.name}.p{i}", type_)] = array
    node_inputs = (*inputs, *initializers)
    if isinstance(op.onnx_export, Absent):  # has an int8 form only
        inputs = [replace(v, type=v.type.with_dtype(DType.INT8)) for v in inputs]
        node_inputs = (*inputs, *initializers)
    attrs = op.attrs() if isinstance(case.attrs, NoAttrs) else case.attrs
    types = op.infer([v.type for v in node_inputs], attrs)
    names = ["y"] if len(types) == 1 else [f"y{i}" for i in range(len(types))]
    outputs = tuple(Value(f"{case.name}.{n}", t) for n, t in zip(names, types, strict=True))
    node = Node(op, node_inputs, outputs, attrs, Origin(case.name, op.name))
    return Graph(op.name, tuple(inputs), outputs, initializers, (node,))


def to_nhwc(graph: Graph) -> Graph:
    """Activations NHWC and filters OHWI, for operators that carry a layout."""
    (node,) = graph.nodes
    if getattr(node.attrs, "layout", "NHWC") == "NHWC":
        return graph
    moved = {v: _channels_last(v) for v in (*graph.inputs, *graph.initializers, *node.outputs)}
    attrs = replace(node.attrs, layout="NHWC")
    inputs, outputs = (tuple(moved[v] for v in vs) for vs in (node.inputs, node.outputs))
    initializers = {
        moved[v]: a.transpose(0, 2, 3, 1).copy() if a.ndim == 4 else a
        for v, a in graph.initializers.items()
    }
    moved_node = replace(node, inputs=inputs, outputs=outputs, attrs=attrs)
    return Graph(graph.name, inputs[: len(graph.inputs)], outputs, initializers, (moved_node,))


def quantized(graph: Graph, case: Case) -> Graph:
    """The int8 graph of a float one, not lowered yet: its operator's constants are still real."""
    (node,) = graph.nodes
    rule = node.op.integer
    assert not isinstance(rule, Absent)
    rng = np.random.default_rng(zlib.crc32(case.name.encode()))
    samples = [
        [_skewed(rng, case, v.type.shape, i) for i, v in enumerate(graph.inputs)]
        for _ in range(_CALIBRATION_SAMPLES)
    ]
    new: dict[Value, Value] = {}
    for i, value in enumerate(graph.inputs):
        new[value] = _int8(value, _min_max([s[i] for s in samples]))
    initializers = _int8_constants(graph, node, new)
    for i, value in enumerate(node.outputs):
        if rule.output == "as_input":
            quant = new[node.inputs[0]].type.quant
        elif isinstance(rule.output, tuple):
            quant = Quant.per_tensor(*rule.output)
        elif isinstance(node.op.onnx_export, Absent):
            quant = Quant.per_tensor(0.05, 3)
        else:
            quant = _min_max([run(graph, s)[i] for s in samples])
        assert quant is not None
        new[value] = _int8(value, quant)
    inputs = tuple(new[v] for v in node.inputs)
    outputs = tuple(new[v] for v in node.outputs)
    int8_node = replace(node, inputs=inputs, outputs=outputs)
    return Graph(graph.name, inputs[: len(graph.inputs)], outputs, initializers, (int8_node,))


def lowered(graph: Graph) -> Graph:
    """What `lower_requantize` makes of a quantised graph."""
    rewriter = Rewriter(graph, "lower_requantize")
    for node in graph.nodes:
        assert not isinstance(node.op.integer, Absent)
        node.op.integer.lower(node, rewriter)
    return rewriter.finish(stage=Stage.QUANTIZED)


def with_one_scale(graph: Graph) -> Graph:
    """A lowered conv2d or dense graph whose channels all have the first one's scale."""
    (node,) = graph.nodes
    initializers = dict(graph.initializers)
    for value in node.inputs[3:5]:
        initializers[value] = np.full_like(initializers[value], initializers[value][0])
    return replace(graph, initializers=initializers)


def float_twin(graph: Graph) -> Graph:
    """The float graph that a quantised (not lowered) graph approximates: its constants as reals."""
    (node,) = graph.nodes

    def real(value: Value) -> Value:
        keep = value.type.quant is None
        return value if keep else Value(value.name, value.type.with_dtype(DType.FLOAT32))

    initializers = {
        real(v): a if v.type.quant is None else dequantize_array(a, v.type)
        for v, a in graph.initializers.items()
    }
    inputs, outputs = (tuple(real(v) for v in vs) for vs in (node.inputs, node.outputs))
    twin = replace(node, inputs=inputs, outputs=outputs)
    return Graph(graph.name, inputs[: len(graph.inputs)], outputs, initializers, (twin,))


def dequantized(graph: Graph, arrays: Sequence[Array]) -> list[Array]:
    """int8 inputs of a graph as reals."""
    return [dequantize_array(a, v.type) for v, a in zip(graph.inputs, arrays, strict=True)]


def _int8_constants(graph: Graph, node: Node, new: dict[Value, Value]) -> dict[Value, Array]:
    """Weights per channel and symmetric, biases int32 in the sums' scale, others per tensor."""
    assert not isinstance(node.op.integer, Absent)
    weight = node.op.integer.weight
    arrays: dict[Value, Array] = {}
    for value, array in graph.initializers.items():
        position = node.inputs.index(value)
        if array.dtype != np.float32:
            new[value] = value
            arrays[value] = array
            continue
        if weight is not None and position == weight.index:
            type_ = value.type.with_dtype(DType.INT8, _symmetric(array, weight.axis(node.attrs)))
        elif weight is not None and position == weight.bias_index:
            scales = new[node.inputs[weight.index]].type.quant
            assert scales is not None
            sums = tuple(s * new[node.inputs[0]].type.scale for s in scales.scale)
            type_ = value.type.with_dtype(DType.INT32, Quant(sums, (0,) * len(sums), 0))
        else:
            type_ = value.type.with_dtype(DType.INT8, _min_max([array]))
        new[value] = Value(value.name, type_)
        arrays[new[value]] = quantize_array(array, type_)
    return arrays


def _skewed(rng: np.random.Generator, case: Case, shape: Shape, index: int) -> Array:
    """Data of the case, its negative part scaled so that no zero point is near zero."""
    low, high = case.data
    real = rng.uniform(low, high, shape)
    return np.where(real < 0, real * (0.75 + 0.35 * index), real).astype(np.float32)


def _symmetric(array: Array, axis: int | None) -> Quant:
    others = tuple(i for i in range(array.ndim) if i != axis)
    peaks = np.maximum(np.abs(array).max(others if axis is not None else None), 1e-6)
    scale = tuple(float(np.float32(p / 127)) for p in np.ravel(peaks))
    return Quant(scale, (0,) * len(scale), axis)


def _min_max(arrays: Sequence[Array]) -> Quant:
    finite = np.concatenate([np.ravel(a[np.isfinite(a)]) for a in arrays])
    low, high = min(0.0, float(finite.min())), max(0.0, float(finite.max()))
    scale = float(np.float32(max(high - low, 1e-6) / 255))
    return Quant.per_tensor(scale, int(np.clip(np.rint(-128 - low / scale), -128, 127)))


def _int8(value: Value, quant: Quant) -> Value:
    return Value(value.name, value.type.with_dtype(DType.INT8, quant))


def _channels_last(value: Value) -> Value:
    if value.type.rank != 4:
        return value
    n, c, h, w = value.type.shape
    return Value(value.name, value.type.with_shape((n, h, w, c)))


def _range_of(graph: Graph, value: Value) -> tuple[float, float]:
    cases = registry()[graph.name].cases
    assert not isinstance(cases, Absent)
    return next(c.data for c in cases if c.name == value.name.rsplit(".", 1)[0])

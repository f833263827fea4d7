"""The importer: models in QDQ form and with QLinear operators. Numerics against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest

from tinsmith.frontend.onnx_import import import_model
from tinsmith.ir.dtypes import DType, Quant

from .onnx_models import INT8, UINT8, info, model, node, qdq_dense
from .test_onnx_import import RNG_SEED, agree, imported, ops

S = {"s": np.array(0.05, np.float32), "z": np.array(7, np.int8)}


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("per_channel", [False, True])
def test_qdq_matmul_becomes_dense_on_transposed_integers(unsigned: bool, per_channel: bool) -> None:
    made = qdq_dense(unsigned, per_channel)
    graph = imported(made)
    dense = next(n for n in graph.nodes if n.op.name == "dense")
    stored = graph.producer[dense.inputs[1]].inputs[0]
    assert stored.type.shape == (3, 4)
    assert stored.type.dtype is DType.INT8
    quant = stored.type.quant
    assert quant is not None
    assert quant.zero_point == (0,) * len(quant.scale)
    assert quant.axis == (0 if per_channel else None)
    x = graph.inputs[0].type
    assert (x.dtype, x.quant) == (DType.INT8, Quant.per_tensor(float(np.float32(0.05)), 3))
    agree(made, graph, lsb=1)


def test_weights_with_a_zero_point_are_centred() -> None:
    made = model(
        [
            node("DequantizeLinear", "x s z", "xd"),
            node("DequantizeLinear", "w s wz", "wd"),
            node("Gemm", "xd wd", "y"),
        ],
        [info("x", [1, 2], INT8)],
        [info("y", [1, 2])],
        S | {"w": np.array([[10, 20], [-30, 40]], np.int8), "wz": np.array(5, np.int8)},
    )
    graph = imported(made)
    dense = next(n for n in graph.nodes if n.op.name == "dense")
    stored = graph.producer[dense.inputs[1]].inputs[0]
    np.testing.assert_array_equal(graph.constant(stored), [[5, -35], [15, 35]])
    agree(made, graph)


def test_quantised_constants_from_float_weights() -> None:
    """Weights stored as float with a QuantizeLinear become integers at import."""
    nodes = [
        node("QuantizeLinear", "w s zero", "wq"),
        node("DequantizeLinear", "wq s zero", "wd"),
        node("QuantizeLinear", "x s z", "xq"),
        node("DequantizeLinear", "xq s z", "xd"),
        node("Gemm", "xd wd", "y"),
    ]
    weights = np.array([[0.1, -0.3], [0.72, 1.0]], np.float32)
    constants = S | {"w": weights, "zero": np.array(0, np.int8)}
    made = model(nodes, [info("x", [1, 2])], [info("y", [1, 2])], constants)
    graph = imported(made)
    stored = [v for v in graph.initializers if v.type.dtype is DType.INT8]
    assert len(stored) == 1
    agree(made, graph)


def test_qlinear_conv() -> None:
    rng = np.random.default_rng(RNG_SEED)
    constants = {
        "xs": np.array(0.02, np.float32),
        "xz": np.array(120, np.uint8),
        "w": rng.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8),
        "ws": rng.uniform(0.001, 0.01, 4).astype(np.float32),
        "wz": np.zeros(4, np.int8),
        "ys": np.array(0.05, np.float32),
        "yz": np.array(128, np.uint8),
        "b": rng.integers(-1000, 1000, 4).astype(np.int32),
    }
    made = model(
        [node("QLinearConv", "x xs xz w ws wz ys yz b", "y", pads=[1, 1, 1, 1])],
        [info("x", [1, 3, 6, 6], UINT8)],
        [info("y", [1, 4, 6, 6], UINT8)],
        constants,
    )
    graph = imported(made)
    assert [op for op in ops(graph) if op != "dequantize"] == ["conv2d", "quantize"]
    assert {n.origin.onnx_op for n in graph.nodes} == {"QLinearConv"}
    agree(made, graph, lsb=1)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_qlinear_matmul(dtype: type) -> None:
    rng = np.random.default_rng(RNG_SEED)
    offset = 128 if dtype is np.uint8 else 0
    constants = {
        "as": np.array(0.02, np.float32),
        "az": np.array(offset + 4, dtype),
        "w": (rng.integers(-127, 128, (5, 3)) + offset).astype(dtype),
        "ws": np.array(0.01, np.float32),
        "wz": np.array(offset, dtype),
        "ys": np.array(0.05, np.float32),
        "yz": np.array(offset, dtype),
    }
    element = UINT8 if dtype is np.uint8 else INT8
    made = model(
        [node("QLinearMatMul", "a as az w ws wz ys yz", "y")],
        [info("a", [2, 5], element)],
        [info("y", [2, 3], element)],
        constants,
    )
    graph = imported(made)
    assert "dense" in ops(graph)
    agree(made, graph, lsb=1)


@pytest.mark.parametrize("op_type", ["QLinearAdd", "QLinearMul"])
def test_qlinear_binary(op_type: str) -> None:
    constants = S | {"t": np.array(0.1, np.float32), "u": np.array(-4, np.int8)}
    made = model(
        [node(op_type, "a s z b t u t u", "y", domain="com.microsoft")],
        [info("a", [1, 6], INT8), info("b", [1, 6], INT8)],
        [info("y", [1, 6], INT8)],
        constants,
        domains=["com.microsoft"],
    )
    graph = import_model(made)
    assert ops(graph) == ["dequantize", "dequantize", op_type[-3:].lower(), "quantize"]
    agree(made, graph, lsb=1)


def test_qlinear_global_average_pool() -> None:
    made = model(
        [
            node(
                "QLinearGlobalAveragePool",
                "x s z s z",
                "y",
                domain="com.microsoft",
                channels_last=0,
            )
        ],
        [info("x", [1, 4, 5, 5], INT8)],
        [info("y", [1, 4, 1, 1], INT8)],
        S,
        domains=["com.microsoft"],
    )
    graph = import_model(made)
    assert ops(graph) == ["dequantize", "reduce_mean", "quantize"]
    agree(made, graph, lsb=1)


def test_qlinear_concat() -> None:
    constants = S | {"t": np.array(0.1, np.float32), "u": np.array(-4, np.int8)}
    made = model(
        [node("QLinearConcat", "t u a s z b t u", "y", domain="com.microsoft", axis=1)],
        [info("a", [1, 3], INT8), info("b", [1, 4], INT8)],
        [info("y", [1, 7], INT8)],
        constants,
        domains=["com.microsoft"],
    )
    graph = import_model(made)
    assert ops(graph) == ["dequantize", "dequantize", "concat", "quantize"]
    agree(made, graph, lsb=1)


def test_zero_points_by_default_are_those_of_uint8() -> None:
    nodes = [
        node("QuantizeLinear", "x s", "q"),
        node("Reshape", "q shape", "r"),
        node("DequantizeLinear", "r s", "y"),
    ]
    constants = {"s": S["s"], "shape": np.array([4], np.int64)}
    made = model(nodes, [info("x", [1, 4])], [info("y", [4])], constants)
    graph = imported(made)
    assert graph.nodes[0].y.quant == Quant.per_tensor(float(np.float32(0.05)), -128)
    agree(made, graph)


def test_integer_input_behind_data_movement() -> None:
    nodes = [
        node("Transpose", "x", "t", perm=[0, 2, 1]),
        node("Reshape", "t shape", "r"),
        node("DequantizeLinear", "r s z", "y"),
    ]
    made = model(
        nodes,
        [info("x", [1, 2, 3], INT8)],
        [info("y", [1, 6])],
        S | {"shape": np.array([1, 6], np.int64)},
    )
    graph = imported(made)
    assert graph.inputs[0].type.quant == Quant.per_tensor(float(np.float32(0.05)), 7)
    agree(made, graph)

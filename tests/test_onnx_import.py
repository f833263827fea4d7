"""The importer: names, binding, constant folding, quantised forms. Numerics against onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import pytest
from onnx import ModelProto, helper

from tinsmith.errors import ImportFailure
from tinsmith.frontend.onnx_export import export_model
from tinsmith.frontend.onnx_import import check_model, import_model
from tinsmith.ir.dtypes import Array, DType, Quant
from tinsmith.ir.graph import Graph
from tinsmith.ir.interpret import run
from tinsmith.ir.verify import verify

from .onnx_builder import run_onnx
from .onnx_models import FLOAT, INT8, INT64, UINT8, conv_model, info, model, node

RNG_SEED = 11
S = {"s": np.array(0.05, np.float32), "z": np.array(7, np.int8)}


def imported(made: ModelProto, bind: Mapping[str, int] | None = None) -> Graph:
    onnx.checker.check_model(made)
    graph = import_model(made, bind=bind)
    verify(graph)
    return graph


def agree(made: ModelProto, graph: Graph, *, lsb: int = 0) -> None:
    """Same results as onnxruntime; integers may differ by `lsb`."""
    rng = np.random.default_rng(RNG_SEED)
    fed: list[Array] = []
    for value, declared in zip(graph.inputs, made.graph.input, strict=True):
        if value.type.dtype is DType.FLOAT32:
            fed.append(rng.uniform(-2, 2, value.type.shape).astype(np.float32))
        else:
            low = 0 if declared.type.tensor_type.elem_type == UINT8 else -128
            stored = rng.integers(low, low + 256, value.type.shape)
            fed.append(stored.astype(np.uint8 if low == 0 else np.int8))
    want = run_onnx(made, fed)
    ours = [(f.astype(np.int16) - 128).astype(np.int8) if f.dtype == np.uint8 else f for f in fed]
    for a, b in zip(run(graph, ours), want, strict=True):
        if b.dtype == np.uint8:
            b = (b.astype(np.int16) - 128).astype(np.int8)  # noqa: PLW2901
        assert a.shape == b.shape
        np.testing.assert_allclose(
            a.astype(np.float64), b.astype(np.float64), rtol=1e-5, atol=max(lsb, 1e-5)
        )


def ops(graph: Graph) -> list[str]:
    return [n.op.name for n in graph.nodes]


def test_names_and_origins_are_kept() -> None:
    graph = imported(conv_model())
    assert [v.name for v in graph.inputs] == ["x"]
    assert [v.name for v in graph.outputs] == ["y"]
    assert [n.name for n in graph.nodes] == ["c", "y"]
    assert [str(n.origin) for n in graph.nodes] == ["Conv 'the_conv'", "Relu 'the_relu'"]
    assert {v.name for v in graph.initializers} == {"w", "b"}
    agree(conv_model(), graph)


def test_name_of_the_graph(tmp_path) -> None:
    path = tmp_path / "my_net.onnx"
    onnx.save(conv_model(), path)
    assert import_model(path).name == "my_net"
    assert import_model(str(path), name="other").name == "other"
    assert import_model(conv_model()).name == "net"


@pytest.mark.parametrize("opset", [11, 12, 13, 15, 18, 19, 21, 22])
def test_opsets(opset: int) -> None:
    made = conv_model(opset=opset)
    agree(made, imported(made))


def test_batch_becomes_one() -> None:
    for batch in ("N", None, 0, -1):
        made = conv_model(
            inputs=[info("x", [batch, 3, 8, 8])], outputs=[info("y", [batch, 4, 6, 6])]
        )
        assert import_model(made).inputs[0].type.shape == (1, 3, 8, 8)


def test_a_batch_that_is_given_stays() -> None:
    made = conv_model(inputs=[info("x", [2, 3, 8, 8])], outputs=[info("y", [2, 4, 6, 6])])
    graph = imported(made)
    assert graph.outputs[0].type.shape == (2, 4, 6, 6)
    agree(made, graph)


def test_dynamic_dimensions_are_bound_by_symbol_or_position() -> None:
    made = conv_model(
        inputs=[info("x", ["N", 3, "size", None])], outputs=[info("y", ["N", 4, None, None])]
    )
    graph = imported(made, {"size": 9, "x:3": 7})
    assert graph.inputs[0].type.shape == (1, 3, 9, 7)
    assert graph.outputs[0].type.shape == (1, 4, 7, 5)
    assert imported(made, {"size": 9, "x:3": 7, "N": 2}).inputs[0].type.shape[0] == 2


def test_a_symbol_of_the_batch_is_one_everywhere() -> None:
    inputs = [info("a", ["N", 4]), info("b", [3, "N"])]
    made = model([node("MatMul", "b a", "y")], inputs, [info("y", [3, 4])])
    assert [v.type.shape for v in imported(made).inputs] == [(1, 4), (3, 1)]


def torch_flatten() -> ModelProto:
    """x.view(x.size(0), -1) as torch exports it: shape arithmetic with Gather, Concat, Cast…"""
    zero = np.array(0, np.int64)
    nodes = [
        node("Shape", "x", "shape"),
        node("Gather", "shape zero", "batch", axis=0),
        node("Constant", "", "minus", value=onnx.numpy_helper.from_array(np.array([-1]))),
        node("Constant", "", "axes", value_ints=[0]),
        node("Unsqueeze", "batch axes", "batch1"),
        node("Cast", "batch1", "batch64", to=INT64),
        node("Concat", "batch64 minus", "target", axis=0),
        node("Reshape", "x target", "flat"),
        node("Slice", "shape one two", "channels"),
        node("Squeeze", "channels axes", "channel"),
        node("Range", "zero channel one0", "counted"),
        node("Cast", "counted", "bias", to=FLOAT),
        node("ReduceSum", "bias", "total", keepdims=0),
        node("Add", "flat total", "y"),
    ]
    constants = {
        "zero": zero,
        "one0": np.array(1, np.int64),
        "one": np.array([1], np.int64),
        "two": np.array([2], np.int64),
    }
    return model(nodes, [info("x", ["N", 3, 2, 2])], [info("y", ["N", 12])], constants)


def test_computed_shapes_fold() -> None:
    made = torch_flatten()
    graph = imported(made)
    assert ops(graph) == ["reshape", "add"]
    agree(made, graph)


def test_constant_of_shape_and_expand_fold() -> None:
    nodes = [
        node("Shape", "x", "shape"),
        node(
            "ConstantOfShape",
            "shape",
            "filled",
            value=helper.make_tensor("v", FLOAT, [1], [0.5]),
        ),
        node("Mul", "x filled", "y"),
    ]
    made = model(nodes, [info("x", [2, 3])], [info("y", [2, 3])])
    graph = imported(made)
    assert ops(graph) == ["mul"]
    agree(made, graph)


def test_identity_and_dropout_vanish() -> None:
    nodes = [
        node("Identity", "x", "a"),
        node("Dropout", "a", "b mask"),
        node("Relu", "b", "c"),
        node("Identity", "c", "y"),
    ]
    made = model(nodes, [info("x", [1, 4])], [info("y", [1, 4])])
    graph = imported(made)
    assert ops(graph) == ["relu"]
    assert graph.outputs[0].name == "y"
    agree(made, graph)


def test_an_output_that_is_an_input_or_another_output_gets_a_node() -> None:
    nodes = [node("Relu", "x", "r"), node("Identity", "r", "s"), node("Identity", "x", "t")]
    made = model(nodes, [info("x", [1, 4])], [info(n, [1, 4]) for n in "rst"])
    graph = imported(made)
    assert [v.name for v in graph.outputs] == ["r", "s", "t"]
    assert ops(graph) == ["relu", "reshape", "reshape"]
    agree(made, graph)


def test_an_output_needs_no_shape() -> None:
    made = conv_model(outputs=[info("y", None)])
    assert not made.graph.output[0].type.tensor_type.HasField("shape")
    graph = import_model(made)
    assert graph.outputs[0].type.shape == (1, 4, 6, 6)
    agree(made, graph)
    wrong = conv_model(outputs=[info("y", [])])
    with pytest.raises(ImportFailure, match=r"declared \[\] but the nodes compute"):
        import_model(wrong)


def test_nodes_out_of_order_are_sorted() -> None:
    made = conv_model()
    nodes = list(made.graph.node)
    del made.graph.node[:]
    made.graph.node.extend(reversed(nodes))
    assert ops(import_model(made)) == ["conv2d", "relu"]


def test_local_functions_are_inlined() -> None:
    made = conv_model()
    domain = helper.make_opsetid("local", 1)
    body = [helper.make_node("Relu", ["a"], ["t"]), helper.make_node("Neg", ["t"], ["b"])]
    function = helper.make_function(
        "local", "NegRelu", ["a"], ["b"], body, [helper.make_opsetid("", 17)]
    )
    made.functions.append(function)
    made.opset_import.append(domain)
    made.graph.node[1].CopyFrom(node("NegRelu", "c", "y", domain="local"))
    graph = imported(made)
    assert ops(graph) == ["conv2d", "relu", "neg"]
    agree(made, graph)


def test_one_dimensional_convolution() -> None:
    rng = np.random.default_rng(RNG_SEED)
    constants = {"w": rng.normal(size=(4, 3, 5)).astype(np.float32)}
    nodes = [node("Conv", "x w", "c", pads=[2, 2], strides=[2]), node("Relu", "c", "y")]
    made = model(nodes, [info("x", [1, 3, 20])], [info("y", [1, 4, 10])], constants)
    graph = imported(made)
    assert ops(graph) == ["reshape", "conv2d", "reshape", "relu"]
    assert [n.name for n in graph.nodes][2:] == ["c", "y"]
    agree(made, graph)


@pytest.mark.parametrize(
    ("attrs", "x", "w"),
    [
        ({}, (2, 3), (3, 4)),
        ({"transB": 1, "alpha": 0.5, "beta": 2.0}, (2, 3), (4, 3)),
        ({"transA": 1}, (3, 2), (3, 4)),
    ],
)
def test_gemm(attrs: dict[str, float], x: tuple[int, int], w: tuple[int, int]) -> None:
    rng = np.random.default_rng(RNG_SEED)
    constants = {
        "w": rng.normal(size=w).astype(np.float32),
        "b": rng.normal(size=4).astype(np.float32),
    }
    made = model(
        [node("Gemm", "x w b", "y", **attrs)], [info("x", x)], [info("y", [2, 4])], constants
    )
    graph = imported(made)
    assert "dense" in ops(graph)
    agree(made, graph)


def qdq_dense(unsigned: bool, per_channel: bool) -> ModelProto:
    rng = np.random.default_rng(RNG_SEED)
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


def test_picture_bytes_cast_to_float() -> None:
    nodes = [node("Cast", "x", "f", to=FLOAT), node("Mul", "f k", "y")]
    constants = {"k": np.array(1 / 255, np.float32)}
    made = model(nodes, [info("x", [1, 3, 4, 4], UINT8)], [info("y", [1, 3, 4, 4])], constants)
    graph = imported(made)
    assert graph.inputs[0].type.quant == Quant.per_tensor(1.0, -128)
    agree(made, graph)


def test_check_reports_the_model() -> None:
    report = check_model(conv_model())
    assert report.unsupported == ()
    assert report.operators == {"Conv": 1, "Relu": 1}
    assert report.parameters == 4 * 27 + 4
    assert report.macs == 4 * 36 * 27
    assert report.inputs == (("x", "float32[1,3,8,8]"),)
    assert report.outputs == (("y", "float32[1,4,6,6]"),)


@pytest.mark.parametrize("make", [conv_model, torch_flatten, lambda: qdq_dense(False, True)])
def test_export_and_import_again(make) -> None:
    graph = imported(make())
    written = export_model(graph)
    assert [i.name for i in written.graph.input] == [v.name for v in graph.inputs]
    assert [o.name for o in written.graph.output] == [v.name for v in graph.outputs]
    again = imported(written)
    rng = np.random.default_rng(RNG_SEED)
    inputs = [rng.integers(-99, 99, v.type.shape).astype(v.type.dtype.numpy) for v in graph.inputs]
    for a, b in zip(run(graph, inputs), run(again, inputs), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(run_onnx(written, inputs), run(graph, inputs), strict=True):
        np.testing.assert_allclose(a.astype(np.float64), b, rtol=1e-5, atol=1e-4)

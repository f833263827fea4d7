"""The importer: names, binding, constant folding, float forms. Numerics against onnxruntime."""

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
from .onnx_models import FLOAT, INT64, UINT8, conv_model, info, model, node, qdq_dense

RNG_SEED = 11


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

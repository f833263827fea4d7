"""The uint8 form of a QDQ model, which onnxruntime is compared in too, is the same network."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.onnxruntime_reference import session
from tests.quant_nets import quantize, samples_of, small_cnn
from tests.shared import shared_models
from tinsmith.frontend.onnx_export import export_model
from tinsmith.peers.contender import NotComparable
from tinsmith.peers.uint8_form import uint8_form


@pytest.fixture(scope="module")
def qdq() -> onnx.ModelProto:
    graph = small_cnn()
    return export_model(quantize(graph, samples_of(graph)))


def assert_same_numbers(model: onnx.ModelProto, seed: int = 0) -> None:
    """Every int8 model input and its uint8 form give outputs that are 128 apart, exactly."""
    changed = uint8_form(model)
    before, after = session(model), session(changed)
    random = np.random.default_rng(seed)
    quants = {n.input[0]: n for n in model.graph.node if n.op_type == "QuantizeLinear"}
    arrays = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    for _ in range(4):
        given, moved = {}, {}
        for info in before.get_inputs():
            shape = [d if isinstance(d, int) else 1 for d in info.shape]
            q = random.integers(-128, 128, shape).astype(np.int8)
            moved[info.name] = (q.astype(np.int16) + 128).astype(np.uint8)
            if info.type == "tensor(float)":
                scale, zero = (arrays[name] for name in quants[info.name].input[1:3])
                given[info.name] = ((q.astype(np.float32) - zero) * scale).astype(np.float32)
            else:
                given[info.name] = q
        for y, moved_y in zip(before.run(None, given), after.run(None, moved), strict=True):
            assert moved_y.dtype == np.uint8
            if y.dtype == np.float32:
                scale, zero = (arrays[n] for n in _dequantize_of_output(model).input[1:3])
                y = np.rint(y / scale) + zero  # noqa: PLW2901
            np.testing.assert_array_equal(moved_y.astype(int) - 128, y.astype(int))


def _dequantize_of_output(model: onnx.ModelProto) -> onnx.NodeProto:
    makers = {o: n for n in model.graph.node for o in n.output}
    node = makers[model.graph.output[0].name]
    while node.op_type != "DequantizeLinear":
        node = makers[node.input[0]]
    return node


def test_uint8_form_is_the_same_network(qdq: onnx.ModelProto) -> None:
    assert_same_numbers(qdq)


def test_uint8_form_leaves_weights_alone(qdq: onnx.ModelProto) -> None:
    before = {t.name: numpy_helper.to_array(t) for t in qdq.graph.initializer}
    after = {t.name: numpy_helper.to_array(t) for t in uint8_form(qdq).graph.initializer}
    assert before.keys() < after.keys()
    for name, array in before.items():
        np.testing.assert_array_equal(after[name], array)


def test_uint8_form_takes_and_gives_integers(qdq: onnx.ModelProto) -> None:
    ends = [*uint8_form(qdq).graph.input, *uint8_form(qdq).graph.output]
    assert [v.type.tensor_type.elem_type for v in ends] == [TensorProto.UINT8] * 2
    assert qdq.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT, "changed in place"


@pytest.mark.parametrize("name", ["kws", "ad", "ic"])
def test_uint8_form_of_known_models(name: str) -> None:
    assert_same_numbers(onnx.load(shared_models() / "mlperf_tiny" / f"{name}_int8.onnx"))


def test_uint8_form_of_a_float_model() -> None:
    with pytest.raises(NotComparable, match="no int8 activations"):
        uint8_form(export_model(small_cnn()))


def test_uint8_form_refuses_arithmetic_on_int8() -> None:
    ends = [helper.make_tensor_value_info(n, TensorProto.INT8, [4]) for n in "xy"]
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"], "sum")], "raw", ends[:1], ends[1:]
    )
    with pytest.raises(NotComparable, match="Add 'sum'"):
        uint8_form(helper.make_model(graph))


def test_uint8_form_that_is_uint8_already() -> None:
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [4]) for n in "xy")
    scale = numpy_helper.from_array(np.float32(0.5), "s")
    zero = numpy_helper.from_array(np.uint8(3), "z")
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "unsigned", [x], [y], [scale, zero])
    with pytest.raises(NotComparable):
        uint8_form(helper.make_model(graph))

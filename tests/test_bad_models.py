"""Malformed and unsupported models: each fails with a clear error, whose text is a golden."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper

from tinsmith.errors import CompileError, ImportFailure, UnsupportedModel
from tinsmith.frontend.onnx_import import check_model, import_model
from tinsmith.ir.verify import verify

from .onnx_models import FLOAT, INT8, INT64, conv_model, info, model, node

Make = Callable[[], ModelProto | bytes]
ONES = np.ones((4, 3, 3, 3), np.float32)


def truncated() -> bytes:
    blob = conv_model().SerializeToString()
    return blob[: len(blob) // 2]


def truncated_weights() -> ModelProto:
    made = conv_model()
    tensor = made.graph.initializer[0]
    tensor.raw_data = tensor.raw_data[:-4]
    return made


def no_opset() -> ModelProto:
    made = conv_model()
    del made.opset_import[:]
    return made


def missing_initializer() -> ModelProto:
    made = conv_model()
    del made.graph.initializer[0]
    return made


def cyclic() -> ModelProto:
    nodes = [
        node("Add", "x s", "r", name="first"),
        node("Relu", "r", "s", name="second"),
        node("Relu", "s", "y", name="third"),
    ]
    return model(nodes, [info("x", [1, 4])], [info("y", [1, 4])])


def defined_twice() -> ModelProto:
    nodes = [node("Relu", "x", "y"), node("Sigmoid", "x", "y")]
    return model(nodes, [info("x", [1, 4])], [info("y", [1, 4])])


def two_inputs_one_name() -> ModelProto:
    return model([node("Relu", "x", "y")], [info("x", [1, 4])] * 2, [info("y", [1, 4])])


def output_undefined() -> ModelProto:
    return model([node("Relu", "x", "z")], [info("x", [1, 4])], [info("y", [1, 4])])


def not_finite(bad: float) -> ModelProto:
    weights = ONES.copy()
    weights[1, 2, 0] = bad
    return conv_model(constants={"w": weights})


def external_data() -> ModelProto:
    made = conv_model()
    tensor = made.graph.initializer[0]
    onnx.external_data_helper.set_external_data(tensor, "weights.bin")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    return made


def subgraph() -> ModelProto:
    branch = helper.make_graph([node("Relu", "x", "t")], "then", [], [info("t", [1, 4])])
    other = helper.make_graph([node("Neg", "x", "e")], "else", [], [info("e", [1, 4])])
    choose = node("If", "flag", "y", then_branch=branch, else_branch=other)
    return model(
        [choose], [info("x", [1, 4])], [info("y", [1, 4])], {"flag": np.array(True, np.bool_)}
    )


def several_unsupported() -> ModelProto:
    """Nodes behind an unsupported one are checked too."""
    nodes = [
        node("Sin", "x", "a", name="sine"),
        node("Relu", "a", "b"),
        node("LpNormalization", "b", "c", name="norm"),
        node("Conv", "c w", "d", name="conv", group=2),
        node("Softmax", "d", "y"),
    ]
    constants = {"w": np.ones((4, 3, 1, 1), np.float32)}
    return model(nodes, [info("x", [1, 3, 8, 8])], [info("y", [1, 4, 8, 8])], constants)


def quantized(scale: float = 0.1, weight: int = 100, zero: int = -60) -> ModelProto:
    constants = {
        "s": np.array(scale, np.float32),
        "z": np.array(3, np.int8),
        "w": np.full((2, 4), weight, np.int8),
        "wz": np.array(zero, np.int8),
    }
    nodes = [
        node("DequantizeLinear", "x s z", "xd"),
        node("DequantizeLinear", "w s wz", "wd"),
        node("Gemm", "xd wd", "y", transB=1),
    ]
    return model(nodes, [info("x", [1, 4], INT8)], [info("y", [1, 2])], constants)


def two_scales() -> ModelProto:
    constants = {"s": np.array(0.1, np.float32), "t": np.array(0.2, np.float32)}
    constants |= {"z": np.array(0, np.int8)}
    nodes = [
        node("QuantizeLinear", "x s z", "q"),
        node("DequantizeLinear", "q t z", "y"),
    ]
    return model(nodes, [info("x", [1, 4])], [info("y", [1, 4])], constants)


def sixteen_bits() -> ModelProto:
    constants = {"s": np.array(0.1, np.float32), "z": np.array(0, np.int16)}
    nodes = [node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z", "y")]
    return model(nodes, [info("x", [1, 4])], [info("y", [1, 4])], constants, opset=21)


def integer_input_of_unknown_scale() -> ModelProto:
    nodes = [node("Abs", "x", "a"), node("Cast", "a", "y", to=FLOAT)]
    return model(nodes, [info("x", [1, 4], INT8)], [info("y", [1, 4])])


def computed_shape() -> ModelProto:
    nodes = [
        node("Relu", "x", "r"),
        node("Cast", "r", "shape", to=INT64),
        node("Reshape", "x shape", "y"),
    ]
    return model(nodes, [info("x", [1, 4])], [info("y", ["a", "b"])])


CASES: dict[str, Make] = {
    "empty_file": lambda: b"",
    "text_file": lambda: b"this is not a model\n" * 20,
    "truncated": truncated,
    "truncated_weights": truncated_weights,
    "no_opset": no_opset,
    "old_opset": lambda: conv_model(opset=9),
    "new_opset": lambda: conv_model(opset=23),
    "missing_initializer": missing_initializer,
    "cyclic": cyclic,
    "defined_twice": defined_twice,
    "two_inputs_one_name": two_inputs_one_name,
    "output_undefined": output_undefined,
    "nan_weights": lambda: not_finite(float("nan")),
    "infinite_weights": lambda: not_finite(float("-inf")),
    "external_data": external_data,
    "invalid_attribute": lambda: conv_model(
        nodes=[node("Conv", "x w b", "c", strides=2), node("Relu", "c", "y")]
    ),
    "channels_mismatch": lambda: conv_model(inputs=[info("x", [1, 5, 8, 8])]),
    "filter_too_large": lambda: conv_model(inputs=[info("x", [1, 3, 2, 2])]),
    "declared_output_differs": lambda: conv_model(outputs=[info("y", [1, 4, 8, 8])]),
    "dynamic_dimensions": lambda: conv_model(
        inputs=[info("x", ["batch", 3, "height", "width"])],
        outputs=[info("y", ["batch", 4, None, None])],
    ),
    "input_without_rank": lambda: conv_model(inputs=[helper.make_tensor_value_info("x", 1, None)]),
    "input_of_int64": lambda: model(
        [node("Gather", "table x", "y")],
        [info("x", [1, 4], INT64)],
        [info("y", [1, 4, 2])],
        {"table": np.ones((9, 2), np.float32)},
    ),
    "control_flow": subgraph,
    "unknown_operator": lambda: conv_model(
        nodes=[node("Conv", "x w b", "c"), node("Frobnicate", "c", "y")]
    ),
    "unknown_domain": lambda: conv_model(
        nodes=[node("Conv", "x w b", "c"), node("FusedGelu", "c", "y", domain="com.example")],
        domains=["com.example"],
    ),
    "several_unsupported": several_unsupported,
    "three_dimensional_convolution": lambda: model(
        [node("Conv", "x w", "y", name="video")],
        [info("x", [1, 3, 4, 8, 8])],
        [info("y", [1, 4, 2, 6, 6])],
        {"w": np.ones((4, 3, 3, 3, 3), np.float32)},
    ),
    "computed_shape": computed_shape,
    "constant_output": lambda: model(
        [node("Add", "a a", "y")], [info("x", [1])], [info("y", [2])], {"a": ONES[0, 0, 0, :2]}
    ),
    "scale_zero": lambda: quantized(scale=0.0, zero=0),
    "two_scales": two_scales,
    "sixteen_bits": sixteen_bits,
    "integer_input_of_unknown_scale": integer_input_of_unknown_scale,
    "training_dropout": lambda: model(
        [node("Dropout", "x ratio training", "y")],
        [info("x", [1, 4])],
        [info("y", [1, 4])],
        {"ratio": np.array(0.5, np.float32), "training": np.array(True)},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_model(name: str, golden: Callable[[str, str], None]) -> None:
    with pytest.raises(CompileError) as caught:
        import_model(_bytes(CASES[name]()))
    assert isinstance(caught.value, (ImportFailure, UnsupportedModel))
    assert caught.value.exit_code == 2
    golden(f"bad_models/{name}.txt", caught.value.render() + "\n")


def test_cases_are_many() -> None:
    assert len(CASES) >= 22


def test_check_lists_what_import_refuses() -> None:
    report = check_model(several_unsupported())
    assert [n.node for n in report.unsupported] == ["sine", "norm", "conv"]
    assert report.operators == {
        "Conv": 1,
        "LpNormalization": 1,
        "Relu": 1,
        "Sin": 1,
        "Softmax": 1,
    }


def test_missing_file(tmp_path: Path, golden: Callable[[str, str], None]) -> None:
    with pytest.raises(ImportFailure) as caught:
        import_model(tmp_path / "nowhere.onnx")
    golden("bad_models/missing_file.txt", caught.value.render() + "\n")


def test_external_data_beside_the_model(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    made = conv_model()
    want = import_model(made)
    onnx.save(
        made,
        path,
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
        convert_attribute=False,
    )
    got = import_model(path)
    for a, b in zip(got.initializers.values(), want.initializers.values(), strict=True):
        np.testing.assert_array_equal(a, b)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ImportFailure, match=r"'weights\.bin'"):
        import_model(path)


@pytest.mark.parametrize("bind", [{"height": 0}, {"depth": 4, "height": 8, "width": 8}])
def test_bad_bindings(bind: dict[str, int], golden: Callable[[str, str], None]) -> None:
    made = CASES["dynamic_dimensions"]()
    with pytest.raises(ImportFailure) as caught:
        import_model(made, bind=bind)
    golden(f"bad_models/bind_{next(iter(bind))}.txt", caught.value.render() + "\n")


@pytest.mark.parametrize("seed", range(40))
def test_damaged_files_never_end_in_a_traceback(seed: int) -> None:
    """Random bytes of a valid file are replaced; it imports, or fails with a CompileError."""
    rng = np.random.default_rng(seed)
    blob = bytearray(conv_model().SerializeToString())
    for _ in range(1 + seed % 5):
        blob[rng.integers(len(blob))] = rng.integers(256)
    try:
        graph = import_model(bytes(blob))
    except CompileError:
        return
    verify(graph)


def _bytes(made: ModelProto | bytes) -> bytes:
    return made if isinstance(made, bytes) else made.SerializeToString()

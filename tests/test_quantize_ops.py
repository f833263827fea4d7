"""QuantizeLinear and DequantizeLinear in the forms of ONNX, against onnxruntime; and refusals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest

from tinsmith.errors import UnsupportedModel
from tinsmith.frontend.onnx_import import import_model
from tinsmith.ir.dtypes import Array, DType
from tinsmith.ir.interpret import run

from .onnx_builder import run_onnx
from .onnx_models import info, model, node

SHAPE = (2, 3, 4)


def round_trip(
    stored: str, zero: Sequence[int] | None, scale: Sequence[float], axis: int | None, opset: int
) -> onnx.ModelProto:
    """x → QuantizeLinear → DequantizeLinear → y."""
    scalar = axis is None
    constants: dict[str, Array] = {"s": np.array(scale[0] if scalar else scale, np.float32)}
    names = "s"
    if zero is not None:
        constants["z"] = np.array(zero[0] if scalar else zero, stored)
        names = "s z"
    attrs: dict[str, Any] = {} if scalar else {"axis": axis}
    nodes = [
        node("QuantizeLinear", f"x {names}", "q", **attrs),
        node("DequantizeLinear", f"q {names}", "y", **attrs),
    ]
    return model(nodes, [info("x", SHAPE)], [info("y", SHAPE)], constants, opset=opset)


@pytest.mark.parametrize("opset", [13, 17, 19, 22])
@pytest.mark.parametrize(
    ("stored", "zero", "scale", "axis"),
    [
        ("int8", [-7], [0.02], None),
        ("uint8", [130], [0.02], None),
        ("uint8", None, [0.02], None),
        ("int8", [1, -2, 3], [0.01, 0.02, 0.03], 1),
        ("uint8", [100, 128, 160, 0], [0.01, 0.02, 0.03, 0.04], 2),
        ("int8", [1, 2], [0.01, 0.02], -3),
    ],
)
def test_round_trip_matches_onnxruntime(
    stored: str, zero: list[int] | None, scale: list[float], axis: int | None, opset: int
) -> None:
    made = round_trip(stored, zero, scale, axis, opset)
    graph = import_model(made)
    assert [n.op.name for n in graph.nodes] == ["quantize", "dequantize"]
    assert graph.nodes[0].y.dtype is DType.INT8
    x = np.random.default_rng(4).uniform(-3, 3, SHAPE).astype(np.float32)
    (got,), (want,) = run(graph, [x]), run_onnx(made, [x])
    np.testing.assert_array_equal(got, want)


def one(op_type: str, constants: Mapping[str, Array], **attrs: Any) -> onnx.ModelProto:
    element = onnx.TensorProto.INT8
    nodes = [node(op_type, " ".join(["x", *constants]), "y", **attrs)]
    return model(nodes, [info("x", SHAPE)], [info("y", SHAPE, element)], constants, opset=21)


def f32(*values: float) -> Array:
    return np.array(values, np.float32)


ZERO, SCALE = np.array(0, np.int8), np.array(0.1, np.float32)
REFUSED = {
    "int16": (one("QuantizeLinear", {"s": SCALE, "z": np.array(0, np.int16)}), "int16"),
    "negative_scale": (one("QuantizeLinear", {"s": -SCALE, "z": ZERO}), "positive finite"),
    "nan_scale": (one("QuantizeLinear", {"s": SCALE * np.nan, "z": ZERO}), "positive finite"),
    "scale_count": (
        one("QuantizeLinear", {"s": f32(0.1, 0.2), "z": np.zeros(2, np.int8)}, axis=1),
        "do not match axis 1",
    ),
    "zero_point_count": (
        one("QuantizeLinear", {"s": f32(0.1, 0.2, 0.3), "z": np.zeros(2, np.int8)}, axis=1),
        "do not pair up",
    ),
    "blocked": (
        one(
            "QuantizeLinear",
            {"s": np.full((2, 3, 2), 0.1, np.float32), "z": np.zeros((2, 3, 2), np.int8)},
            axis=2,
            block_size=2,
        ),
        "blocked quantisation",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusal_says_why(name: str) -> None:
    made, reason = REFUSED[name]
    with pytest.raises(UnsupportedModel) as caught:
        import_model(made)
    assert reason in caught.value.render()


def test_dequantize_with_another_scale_is_refused() -> None:
    made = round_trip("int8", [0], [0.1], None, 17)
    other = onnx.numpy_helper.from_array(np.array(0.2, np.float32), "s2")
    made.graph.initializer.append(other)
    made.graph.node[1].input[1] = "s2"
    with pytest.raises(UnsupportedModel) as caught:
        import_model(made)
    assert "differ from those its input was quantised with" in caught.value.render()

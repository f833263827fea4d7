"""ONNX products, sums, activations and quantisation in the forms of opset 11 to 22, against
onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest

from tinsmith.errors import UnsupportedModel
from tinsmith.frontend.onnx_import import import_model
from tinsmith.ir.dtypes import Array, DType, Shape
from tinsmith.ir.graph import Graph
from tinsmith.ir.interpret import run
from tinsmith.ir.verify import verify

from .onnx_builder import run_onnx
from .onnx_models import info, model, node

RNG = np.random.default_rng(20)
TOLERANCE = {"rtol": 1e-5, "atol": 2e-6}  # float32 sums in another order


@dataclass(frozen=True)
class Form:
    """One ONNX node: `inputs` names what it reads; shapes are fed, constants are stored."""

    op_type: str
    inputs: str
    shapes: Mapping[str, Shape]
    constants: Mapping[str, Array] = field(default_factory=dict[str, Array])
    attrs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    opsets: tuple[int, ...] = (11, 13, 17, 22)
    nodes: tuple[str, ...] | None = None  # operators of the imported graph, where it matters

    def model(self, opset: int) -> onnx.ModelProto:
        rank_unknown = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
        made = model(
            [node(self.op_type, self.inputs, "y", **self.attrs)],
            [info(name, shape) for name, shape in self.shapes.items()],
            [rank_unknown],
            self.constants,
            opset=opset,
        )
        inferred = onnx.shape_inference.infer_shapes(made)
        made.graph.output[0].CopyFrom(inferred.graph.output[0])
        return made


def f32(*shape: int) -> Array:
    return RNG.normal(0, 1, shape).astype(np.float32)


def scalar(value: float) -> Array:
    return np.array(value, np.float32)


X = {"x": (3, 8)}
W, WT, B = f32(8, 5), f32(5, 8), f32(5)

FORMS = {
    "gemm": Form("Gemm", "x w b", X, {"w": W, "b": B}, nodes=("dense",)),
    "gemm_no_bias": Form("Gemm", "x w", X, {"w": W}, nodes=("dense",)),
    "gemm_trans_b": Form("Gemm", "x w b", X, {"w": WT, "b": B}, {"transB": 1}, nodes=("dense",)),
    "gemm_trans_a": Form("Gemm", "x w", {"x": (8, 3)}, {"w": W}, {"transA": 1}),
    "gemm_scaled": Form("Gemm", "x w b", X, {"w": W, "b": B}, {"alpha": 0.5, "beta": -2.0}),
    "gemm_beta_zero": Form("Gemm", "x w b", X, {"w": W, "b": B}, {"beta": 0.0}),
    "gemm_row_bias": Form("Gemm", "x w b", X, {"w": W, "b": B.reshape(1, 5)}, nodes=("dense",)),
    "gemm_scalar_bias": Form("Gemm", "x w b", X, {"w": W, "b": scalar(0.25)}, nodes=("dense",)),
    "gemm_full_bias": Form("Gemm", "x w b", X, {"w": W, "b": f32(3, 5)}, nodes=("dense", "add")),
    "gemm_fed_bias": Form("Gemm", "x w c", X | {"c": (5,)}, {"w": W}, nodes=("dense", "add")),
    "gemm_fed_b": Form("Gemm", "x w b", X | {"w": (8, 5)}, {"b": B}, {"alpha": 2.0}),
    "gemm_fed_b_t": Form("Gemm", "x w", X | {"w": (5, 8)}, {}, {"transB": 1}),
    "matmul": Form("MatMul", "x w", X, {"w": W}, nodes=("dense",)),
    "matmul_3d": Form("MatMul", "x w", {"x": (2, 3, 8)}, {"w": W}, nodes=("dense",)),
    "matmul_vector": Form("MatMul", "x w", {"x": (8,)}, {"w": W}, nodes=("dense",)),
    "matmul_fed": Form("MatMul", "x w", X | {"w": (8, 5)}, nodes=("matmul",)),
    "matmul_fed_row": Form("MatMul", "x w", {"x": (8,), "w": (2, 8, 5)}),
    "matmul_fed_column": Form("MatMul", "x w", {"x": (2, 3, 8), "w": (8,)}),
    "matmul_dot": Form("MatMul", "x w", {"x": (8,), "w": (8,)}),
    "matmul_left_constant": Form("MatMul", "w x", {"x": (8, 4)}, {"w": WT}, nodes=("matmul",)),
    "matmul_batched_constant": Form("MatMul", "x w", {"x": (2, 3, 8)}, {"w": f32(2, 8, 4)}),
    "add": Form("Add", "x c", X, {"c": f32(8)}, nodes=("add",)),
    "add_constant_first": Form("Add", "c x", X, {"c": f32(8)}),
    "add_itself": Form("Add", "x x", X),
    "sub": Form("Sub", "x z", X | {"z": (1, 8)}, nodes=("sub",)),
    "sub_from_constant": Form("Sub", "c x", X, {"c": scalar(1.0)}),
    "mul": Form("Mul", "x z", X | {"z": (3, 1)}, nodes=("mul",)),
    "square": Form("Mul", "x x", X),
    "div": Form("Div", "x c", X, {"c": np.array([1, 2, 3, 4, -5, 6, 7, 0.5], np.float32)}),
    "relu": Form("Relu", "x", X),
    "clip": Form("Clip", "x lo hi", X, {"lo": scalar(-0.5), "hi": scalar(0.5)}),
    "clip_low": Form("Clip", "x lo", X, {"lo": scalar(-0.5)}),
    "clip_high": Form("Clip", "x _ hi", X, {"hi": scalar(0.5)}),
    "leaky": Form("LeakyRelu", "x", X),
    "leaky_alpha": Form("LeakyRelu", "x", X, {}, {"alpha": 0.3}),
    "prelu": Form("PRelu", "x s", X, {"s": np.array([0.2], np.float32)}),
    "hard_swish": Form("HardSwish", "x", X, opsets=(14, 17, 22)),
    "hard_sigmoid": Form("HardSigmoid", "x", X, {}, {"alpha": 0.3, "beta": 0.4}),
    "sigmoid": Form("Sigmoid", "x", X),
    "tanh": Form("Tanh", "x", X),
    "elu": Form("Elu", "x", X, {}, {"alpha": 0.7}),
    "selu": Form("Selu", "x", X),
    "softplus": Form("Softplus", "x", X),
    "erf": Form("Erf", "x", X, opsets=(13, 17, 22)),
    "gelu": Form("Gelu", "x", X, opsets=(20, 22)),
    "gelu_tanh": Form("Gelu", "x", X, {}, {"approximate": "tanh"}, (20, 22)),
    "softmax": Form("Softmax", "x", X, nodes=("softmax",)),
    "softmax_axis": Form("Softmax", "x", {"x": (2, 3, 4)}, {}, {"axis": 1}),
    "softmax_first": Form("Softmax", "x", {"x": (2, 3, 4)}, {}, {"axis": 0}),
    "softmax_default": Form("Softmax", "x", {"x": (2, 3, 4)}),
    "softmax_image": Form("Softmax", "x", {"x": (2, 3, 1, 1)}, {}, {"axis": 1}),
    "batch_norm": Form(
        "BatchNormalization",
        "x s b m v",
        {"x": (2, 4, 3, 3)},
        {"s": f32(4), "b": f32(4), "m": f32(4), "v": np.abs(f32(4)) + 0.5},
        {"epsilon": 1e-3},
    ),
}


@pytest.mark.parametrize(
    ("form", "opset"),
    [pytest.param(f, o, id=f"{name}-{o}") for name, f in FORMS.items() for o in f.opsets],
)
def test_form(form: Form, opset: int) -> None:
    made = form.model(opset)
    graph = import_model(made)
    verify(graph)
    if form.nodes is not None:
        assert tuple(n.op.name for n in graph.nodes) == form.nodes
    inputs = [f32(*v.type.shape) for v in graph.inputs]
    (got,), (want,) = run(graph, inputs), run_onnx(made, inputs)
    np.testing.assert_allclose(got, want, **TOLERANCE)


REFUSED = {
    "div_fed": (Form("Div", "x z", X | {"z": (3, 8)}), "division by a computed tensor"),
    "div_zero": (Form("Div", "x c", X, {"c": scalar(0.0)}), "divides by zero"),
    "prelu_channels": (Form("PRelu", "x s", X, {"s": f32(8)}), "one constant slope"),
    "clip_fed": (Form("Clip", "x lo", X | {"lo": ()}), "computed"),
    "clip_crossed": (
        Form("Clip", "x lo hi", X, {"lo": scalar(1), "hi": scalar(0)}),
        "above its maximum",
    ),
    "log_softmax": (Form("LogSoftmax", "x", X), "LogSoftmax"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusal_says_why(name: str) -> None:
    form, reason = REFUSED[name]
    with pytest.raises(UnsupportedModel) as caught:
        import_model(form.model(17))
    assert reason in caught.value.render()


@pytest.mark.parametrize("stored", ["int8", "uint8"])
@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize("op_type", ["Gemm", "MatMul"])
def test_quantised_weights_are_transposed_below_their_dequantize(
    stored: str, axis: int | None, op_type: str
) -> None:
    graph, made = _qdq_product(op_type, stored, axis)
    dense = next(n for n in graph.nodes if n.op.name == "dense")
    (weight,) = (n for n in graph.nodes if n.outputs[0] == dense.inputs[1])
    assert weight.op.name == "dequantize"
    assert weight.x.dtype is DType.INT8
    assert graph.is_constant(weight.inputs[0])
    assert weight.x.shape == (6, 8)
    x = f32(2, 8)
    (got,), (want,) = run(graph, [x]), run_onnx(made, [x])
    np.testing.assert_allclose(got, want, **TOLERANCE)


def _qdq_product(op_type: str, stored: str, axis: int | None) -> tuple[Graph, onnx.ModelProto]:
    """x → quantize → dequantize → product with a dequantised constant [8, 6] → y."""
    count = 1 if axis is None else (8, 6)[axis]
    scale = RNG.uniform(0.01, 0.02, count).astype(np.float32)
    zero = np.full(count, 128 if stored == "uint8" else 0, stored)
    low, high = np.iinfo(stored).min, np.iinfo(stored).max
    if axis is None:
        scale, zero = scale.reshape(()), zero.reshape(())
    constants: dict[str, Array] = {
        "sx": scalar(0.02),
        "zx": np.array(7 if stored == "int8" else 135, stored),
        "w": RNG.integers(low, high, (8, 6), stored, endpoint=True),
        "sw": scale,
        "zw": zero,
        "b": RNG.integers(-500, 500, 6, np.int32),
        "sb": np.full(6, 0.0003, np.float32),
        "zb": np.zeros(6, np.int32),
    }
    weight_axis = {} if axis is None else {"axis": axis}
    nodes = [
        node("QuantizeLinear", "x sx zx", "qx"),
        node("DequantizeLinear", "qx sx zx", "dx", name="dx"),
        node("DequantizeLinear", "w sw zw", "dw", name="dw", **weight_axis),
        node("DequantizeLinear", "b sb zb", "db", name="db", axis=0),
    ]
    if op_type == "Gemm":
        nodes.append(node("Gemm", "dx dw db", "y"))
    else:
        nodes += [node("MatMul", "dx dw", "p"), node("Add", "p db", "y")]
    made = model(nodes, [info("x", (2, 8))], [info("y", (2, 6))], constants)
    return import_model(made), made


def test_uint8_activations_become_int8() -> None:
    graph, _ = _qdq_product("Gemm", "uint8", None)
    quantize = next(n for n in graph.nodes if n.op.name == "quantize")
    assert quantize.y.dtype is DType.INT8
    assert quantize.y.zero_point == 135 - 128

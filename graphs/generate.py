"""Networks of the shapes of MLPerf Tiny with random weights, for tests that need no files.

`build("kws")` gives a float ONNX model, `build("kws", qdq=True)` the same one in QDQ form.
Weights are drawn so that activations keep a variance near one; the QDQ form relies on that for its
scales, so it is a valid network whose answers mean nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
# Range of an activation with variance one, with and without negative values.
SIGNED, UNSIGNED = (-4.0, 4.0), (0.0, 4.0)


@dataclass
class _Writer:
    """Appends layers; a value is its name and the scale it has in QDQ form."""

    seed: int
    qdq: bool
    nodes: list[Any] = field(default_factory=list)
    tensors: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.scales: dict[str, float] = {}

    def node(self, op: str, inputs: list[str], **attributes: Any) -> str:
        name = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [f"{name}_out"], name, **attributes))
        return f"{name}_out"

    def tensor(self, name: str, array: np.ndarray) -> str:
        self.tensors.append(numpy_helper.from_array(array, name))
        return name

    def pair(self, x: str, limits: tuple[float, float]) -> str:
        """QuantizeLinear and DequantizeLinear on a value, in QDQ form; otherwise nothing."""
        if not self.qdq:
            return x
        scale = (limits[1] - limits[0]) / 255
        zero_point = round(-128 - limits[0] / scale)
        ends = [
            self.tensor(f"{x}_scale", np.array(scale, np.float32)),
            self.tensor(f"{x}_zero_point", np.array(zero_point, np.int8)),
        ]
        y = self.node("DequantizeLinear", [self.node("QuantizeLinear", [x, *ends]), *ends])
        self.scales[y] = scale
        return y

    def weights(self, x: str, shape: tuple[int, ...]) -> list[str]:
        """A filter [O, ...] and a bias [O]; in QDQ form int8 per output channel, and int32."""
        name = f"layer_{len(self.nodes)}"
        fan_in = int(np.prod(shape[1:]))
        filters = self.rng.normal(0, np.sqrt(2 / fan_in), shape).astype(np.float32)
        bias = self.rng.normal(0, 0.1, shape[0]).astype(np.float32)
        if not self.qdq:
            return [self.tensor(f"{name}_weight", filters), self.tensor(f"{name}_bias", bias)]
        axes = tuple(range(1, len(shape)))
        scale = (np.abs(filters).max(axes) / 127).astype(np.float32)
        q = np.rint(filters / scale.reshape(-1, *[1] * len(axes))).astype(np.int8)
        bias_scale = (scale * self.scales[x]).astype(np.float32)
        return [
            self.dequantized(f"{name}_weight", q, scale),
            self.dequantized(
                f"{name}_bias", np.rint(bias / bias_scale).astype(np.int32), bias_scale
            ),
        ]

    def dequantized(self, name: str, q: np.ndarray, scale: np.ndarray) -> str:
        inputs = [
            self.tensor(name, q),
            self.tensor(f"{name}_scale", scale),
            self.tensor(f"{name}_zero_point", np.zeros(scale.shape, q.dtype)),
        ]
        return self.node("DequantizeLinear", inputs, axis=0)

    def conv(
        self,
        x: str,
        shape: tuple[int, int, int, int],
        stride: int = 1,
        *,
        relu: bool = True,
        groups: int = 1,
    ) -> str:
        """A convolution with filter OIHW and padding that keeps the size at stride 1."""
        inputs = [x, *self.weights(x, shape)]
        y = self.node(
            "Conv",
            inputs,
            strides=[stride] * 2,
            auto_pad="SAME_UPPER",
            group=groups,
            kernel_shape=list(shape[2:]),
        )
        return self.pair(self.node("Relu", [y]), UNSIGNED) if relu else self.pair(y, SIGNED)

    def separable(self, x: str, inputs: int, outputs: int, stride: int) -> str:
        x = self.conv(x, (inputs, 1, 3, 3), stride, groups=inputs)
        return self.conv(x, (outputs, inputs, 1, 1))

    def dense(self, x: str, inputs: int, outputs: int, *, relu: bool = False) -> str:
        y = self.node("Gemm", [x, *self.weights(x, (outputs, inputs))], transB=1)
        return self.pair(self.node("Relu", [y]), UNSIGNED) if relu else self.pair(y, SIGNED)

    def classify(self, x: str, inputs: int, classes: int) -> str:
        """Global average pool, dense layer, softmax."""
        x = self.pair(self.node("GlobalAveragePool", [x]), UNSIGNED)
        x = self.pair(self.node("Flatten", [x], axis=1), UNSIGNED)
        x = self.dense(x, inputs, classes)
        return self.pair(self.node("Softmax", [x], axis=1), (0.0, 255 / 256))


def _kws(w: _Writer, x: str) -> str:
    x = w.conv(x, (64, 1, 10, 4), 2)
    for _ in range(4):
        x = w.separable(x, 64, 64, 1)
    return w.classify(x, 64, 12)


def _vww(w: _Writer, x: str) -> str:
    x, channels = w.conv(x, (8, 3, 3, 3), 2), 8
    outputs = (16, 32, 32, 64, 64, *[128] * 6, 256, 256)
    strides = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
    for count, stride in zip(outputs, strides, strict=True):
        x, channels = w.separable(x, channels, count, stride), count
    return w.classify(x, channels, 2)


def _ic(w: _Writer, x: str) -> str:
    x, channels = w.conv(x, (16, 3, 3, 3)), 16
    for count, stride in ((16, 1), (32, 2), (64, 2)):
        y = w.conv(x, (count, channels, 3, 3), stride)
        y = w.conv(y, (count, count, 3, 3), relu=False)
        side = x if stride == 1 else w.conv(x, (count, channels, 1, 1), stride, relu=False)
        x = w.pair(w.node("Relu", [w.node("Add", [y, side])]), UNSIGNED)
        channels = count
    return w.classify(x, channels, 10)


def _ad(w: _Writer, x: str) -> str:
    widths = (640, *[128] * 4, 8, *[128] * 4)
    for inputs, outputs in pairwise(widths):
        x = w.dense(x, inputs, outputs, relu=True)
    return w.dense(x, 128, 640)


# Name: input and output shape without the batch, and the layers.
_NETWORKS: dict[str, tuple[tuple[int, ...], tuple[int, ...], Callable[[_Writer, str], str]]] = {
    "kws": ((1, 49, 10), (12,), _kws),
    "vww": ((3, 96, 96), (2,), _vww),
    "ic": ((3, 32, 32), (10,), _ic),
    "ad": ((640,), (640,), _ad),
}
NAMES = tuple(_NETWORKS)


def build(name: str, *, seed: int = 0, qdq: bool = False) -> onnx.ModelProto:
    """One of NAMES, batch 1, NCHW, with input "x"; the same bytes for the same arguments."""
    input_shape, output_shape, layers = _NETWORKS[name]
    writer = _Writer(seed, qdq)
    y = layers(writer, writer.pair("x", SIGNED))
    graph = helper.make_graph(
        writer.nodes,
        f"{name}_random",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, *input_shape])],
        [helper.make_tensor_value_info(y, TensorProto.FLOAT, [1, *output_shape])],
        writer.tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version, model.producer_name = 8, "tinsmith graphs"
    return model


def samples(name: str, count: int, *, seed: int = 0) -> np.ndarray:
    """Random float32 inputs [count, ...] of variance one for `build(name)`."""
    shape = (count, *_NETWORKS[name][0])
    return np.random.default_rng(seed + 1).normal(size=shape).astype(np.float32)

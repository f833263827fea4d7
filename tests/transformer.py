"""A small transformer encoder as ONNX: attention with several heads, FFN, norms, residuals."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnx import helper, numpy_helper

TOKENS, WIDTH, HEADS, HIDDEN, CLASSES = 8, 32, 4, 64, 8
Norm = Literal["layer", "batch", "none"]


class Encoder:
    """Writes the nodes one by one; names of values come back."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def op(self, kind: str, *inputs: str, **attrs: object) -> str:
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name, **attrs))
        return name

    def constant(self, array: np.ndarray) -> str:
        name = f"constant_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def weights(self, *shape: int, spread: float = 1.0) -> str:
        array = self.rng.standard_normal(shape) * spread
        return self.constant(array.astype(np.float32))

    def linear(self, x: str, inputs: int, outputs: int) -> str:
        y = self.op("MatMul", x, self.weights(inputs, outputs, spread=inputs**-0.5))
        return self.op("Add", y, self.weights(outputs, spread=0.1))

    def attention(self, x: str, *, output: bool = True) -> str:
        """[1, TOKENS, WIDTH]: scaled dot products of HEADS heads, then the output projection."""
        split = self.constant(np.array([1, TOKENS, HEADS, WIDTH // HEADS], np.int64))
        joined = self.constant(np.array([1, TOKENS, WIDTH], np.int64))
        parts: list[str] = []
        for perm in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]):
            part = self.op("Reshape", self.linear(x, WIDTH, WIDTH), split)
            parts.append(self.op("Transpose", part, perm=perm))
        query, key, value = parts
        scale = self.constant(np.array((WIDTH // HEADS) ** -0.5, np.float32))
        scores = self.op("Mul", self.op("MatMul", query, key), scale)
        mixed = self.op("MatMul", self.op("Softmax", scores, axis=-1), value)
        y = self.op("Reshape", self.op("Transpose", mixed, perm=[0, 2, 1, 3]), joined)
        return self.linear(y, WIDTH, WIDTH) if output else y

    def norm(self, x: str, kind: Norm) -> str:
        """layer: LayerNorm of its parts. batch: a fixed scale and offset per channel."""
        if kind == "none":
            return x
        gain, bias = self.weights(WIDTH, spread=0.2), self.weights(WIDTH, spread=0.2)
        if kind == "batch":
            return self.op("Add", self.op("Mul", x, gain), bias)
        axes = self.constant(np.array([-1], np.int64))
        centred = self.op("Sub", x, self.op("ReduceMean", x, axes, keepdims=1))
        squares = self.op("Mul", centred, centred)
        variance = self.op("ReduceMean", squares, axes, keepdims=1)
        epsilon = self.constant(np.array(1e-3, np.float32))
        deviation = self.op("Sqrt", self.op("Add", variance, epsilon))
        unit = self.op("Mul", centred, self.op("Reciprocal", deviation))
        return self.op("Add", self.op("Mul", unit, gain), bias)

    def feed_forward(self, x: str, activation: str) -> str:
        return self.linear(self.op(activation, self.linear(x, WIDTH, HIDDEN)), HIDDEN, WIDTH)


def transformer(
    path: Path, *, norm: Norm = "layer", activation: str = "Gelu", blocks: int = 2, seed: int = 0
) -> Path:
    """Write it: x [1, TOKENS, 12] → projection, blocks, mean over tokens, head [1, CLASSES]."""
    net = Encoder(seed)
    x = net.linear("x", 12, WIDTH)
    for _ in range(blocks):
        x = net.norm(net.op("Add", x, net.attention(x)), norm)
        x = net.norm(net.op("Add", x, net.feed_forward(x, activation)), norm)
    pooled = net.op("ReduceMean", x, net.constant(np.array([1], np.int64)), keepdims=0)
    y = net.linear(pooled, WIDTH, CLASSES)
    f32 = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        net.nodes,
        "encoder",
        [helper.make_tensor_value_info("x", f32, [1, TOKENS, 12])],
        [helper.make_tensor_value_info(y, f32, [1, CLASSES])],
        net.initializers,
    )
    opset = [helper.make_opsetid("", 20)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path

"""Models of four equal large layers in QDQ form: what a single layer costs, without a model's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

LAYERS = 4
_SCALE, _ZERO_POINT = np.float32(0.05), np.int8(-10)


@dataclass(frozen=True)
class Chain:
    """`channels` in and out, a square image of `size` pixels and a square filter of `kernel`."""

    size: int
    channels: int
    kernel: int
    depthwise: bool = False

    @property
    def name(self) -> str:
        kind = "dw" if self.depthwise else "conv"
        return f"{kind}{self.kernel}x{self.kernel}-{self.size}x{self.size}x{self.channels}"

    @property
    def label(self) -> str:
        kind = "dw" if self.depthwise else "conv"
        size = f"{self.size}×{self.size}×{self.channels}"
        return f"{kind} {self.kernel}×{self.kernel}, {size}"

    def model(self, seed: int = 0) -> onnx.ModelProto:
        """int8 [1, channels, size, size] in and out; scales that use most of the int8 range."""
        random = np.random.default_rng(seed)
        arrays: dict[str, np.ndarray] = {"s": np.array(_SCALE), "z": np.array(_ZERO_POINT)}
        nodes: list[onnx.NodeProto] = []
        x = "x"
        for i in range(LAYERS):
            y = "y" if i == LAYERS - 1 else f"q{i}"
            self._layer(i, x, y, random, arrays, nodes)
            x = y
        shape = [1, self.channels, self.size, self.size]
        ends = [helper.make_tensor_value_info(n, onnx.TensorProto.INT8, shape) for n in "xy"]
        stored = [numpy_helper.from_array(a, name) for name, a in arrays.items()]
        graph = helper.make_graph(nodes, self.name, ends[:1], ends[1:], stored)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    def _layer(
        self,
        index: int,
        x: str,
        y: str,
        random: np.random.Generator,
        arrays: dict[str, np.ndarray],
        nodes: list[onnx.NodeProto],
    ) -> None:
        out = self.channels
        shape = (out, 1 if self.depthwise else out, self.kernel, self.kernel)
        weights = random.integers(-127, 128, shape).astype(np.int8)
        spread = 1 / (73 * np.sqrt(weights[0].size))  # 73: the deviation of such weights
        scales = (spread * random.uniform(0.7, 1.3, out)).astype(np.float32)
        n = str(index)
        arrays |= {
            "w" + n: weights,
            "sw" + n: scales,
            "zw" + n: np.zeros(out, np.int8),
            "b" + n: random.integers(-500, 500, out).astype(np.int32),
            "sb" + n: scales * _SCALE,
            "zb" + n: np.zeros(out, np.int32),
        }

        def dequantize(names: list[str], output: str, **attrs: int) -> onnx.NodeProto:
            return helper.make_node("DequantizeLinear", names, [output], output, **attrs)

        pad = self.kernel // 2
        nodes += [
            dequantize([x, "s", "z"], "xd" + n),
            dequantize(["w" + n, "sw" + n, "zw" + n], "wd" + n, axis=0),
            dequantize(["b" + n, "sb" + n, "zb" + n], "bd" + n, axis=0),
            helper.make_node(
                "Conv", ["xd" + n, "wd" + n, "bd" + n], ["c" + n], "conv" + n,
                pads=[pad] * 4, group=out if self.depthwise else 1,
            ),
            helper.make_node("QuantizeLinear", ["c" + n, "s", "z"], [y], "quantize" + n),
        ]  # fmt: skip


CHAINS = (
    Chain(56, 64, 3),
    Chain(28, 128, 3),
    Chain(14, 256, 3),
    Chain(56, 64, 1),
    Chain(14, 512, 1),
    Chain(7, 512, 1),
    Chain(56, 128, 3, depthwise=True),
    Chain(14, 512, 3, depthwise=True),
)

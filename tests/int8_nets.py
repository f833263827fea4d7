"""Small int8 networks written down in tests: quantisation drawn at random, then lowered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tinsmith.ir.dtypes import Array, DType, Quant, TensorType, int8
from tinsmith.ir.graph import Graph, Node, Origin, Value
from tinsmith.ir.opdef import Absent
from tinsmith.ops import get
from tinsmith.ops._pool import PoolAttrs
from tinsmith.ops.average_pool import AveragePoolAttrs
from tinsmith.ops.concat import ConcatAttrs
from tinsmith.ops.conv2d import Conv2dAttrs
from tinsmith.ops.max_pool import MaxPoolAttrs
from tinsmith.ops.reshape import ReshapeAttrs
from tinsmith.ops.split import SplitAttrs

from .cases import lowered


class Int8Net:
    """Nodes are added in NHWC; `build` lowers them. The same seed gives the same network."""

    def __init__(self, name: str, seed: int = 0) -> None:
        self.name = name
        self.rng = np.random.default_rng(seed)
        self.inputs: list[Value] = []
        self.nodes: list[Node] = []
        self.constants: dict[Value, Array] = {}

    def quant(self, low: float = 0.02, high: float = 0.06) -> Quant:
        scale = float(np.float32(self.rng.uniform(low, high)))
        return Quant.per_tensor(scale, int(self.rng.integers(-60, 60)))

    def input(self, *shape: int) -> Value:
        quant = self.quant()
        name = f"x{len(self.inputs)}"
        self.inputs.append(Value(name, int8(shape, quant.scale[0], quant.zero_point[0])))
        return self.inputs[-1]

    def add_all(self, op: str, inputs: Sequence[Value], attrs: Any = None) -> tuple[Value, ...]:
        record = get(op)
        rule = record.integer
        assert not isinstance(rule, Absent)
        attrs = record.attrs() if attrs is None else attrs
        name = f"{op}{len(self.nodes)}"
        outputs: list[Value] = []
        for i, type_ in enumerate(record.infer([v.type for v in inputs], attrs)):
            quant = self.quant()
            if rule.output == "as_input":
                quant = inputs[0].type.quant
            elif isinstance(rule.output, tuple):
                quant = Quant.per_tensor(*rule.output)
            suffix = f".{i}" if i else ""
            outputs.append(Value(name + suffix, type_.with_dtype(DType.INT8, quant)))
        self.nodes.append(Node(record, tuple(inputs), tuple(outputs), attrs, Origin(name, op)))
        return tuple(outputs)

    def add(self, op: str, inputs: Sequence[Value], attrs: Any = None) -> Value:
        return self.add_all(op, inputs, attrs)[0]

    def constant(self, hint: str, array: Array, quant: Quant) -> Value:
        type_ = TensorType(array.shape, DType(array.dtype.name), quant)
        value = Value(f"{hint}{len(self.nodes)}", type_)
        self.constants[value] = array
        return value

    def weights(self, x: Value, shape: Sequence[int], fan_in: int) -> list[Value]:
        """Filter [O, …] with a scale per channel, and its bias; sums stay near int8."""
        out = shape[0]
        scales = self.rng.uniform(0.5, 2.0, out) * 0.008 / np.sqrt(fan_in)
        per_channel = Quant(tuple(float(np.float32(s)) for s in scales), (0,) * out, 0)
        filters = self.rng.integers(-127, 128, shape).astype(np.int8)
        bias = self.rng.integers(-2000, 2000, out).astype(np.int32)
        sums = Quant(tuple(s * x.type.scale for s in per_channel.scale), (0,) * out, 0)
        return [self.constant("w", filters, per_channel), self.constant("b", bias, sums)]

    def conv(self, x: Value, out: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> Value:
        """Padded so that stride 1 keeps the size of an odd kernel."""
        per_group = x.type.shape[3] // groups
        shape = (out, kernel, kernel, per_group)
        pad = kernel // 2
        attrs = Conv2dAttrs((stride, stride), (pad,) * 4, groups=groups, layout="NHWC")
        weights = self.weights(x, shape, kernel * kernel * per_group)
        return self.add("conv2d", [x, *weights], attrs)

    def depthwise(self, x: Value, kernel: int = 3, stride: int = 1) -> Value:
        channels = x.type.shape[3]
        return self.conv(x, channels, kernel, stride, channels)

    def dense(self, x: Value, out: int) -> Value:
        batch = x.type.shape[0]
        features = x.type.elements // batch
        flat = self.add("reshape", [x], ReshapeAttrs((batch, features)))
        return self.add("dense", [flat, *self.weights(flat, (out, features), features)])

    def pool(self, kind: str, x: Value, kernel: int = 2, stride: int = 1) -> Value:
        kernel = min(kernel, x.type.shape[1], x.type.shape[2])
        form: type[PoolAttrs] = MaxPoolAttrs if kind == "max_pool" else AveragePoolAttrs
        return self.add(kind, [x], form((kernel, kernel), (stride, stride), layout="NHWC"))

    def concat(self, values: Sequence[Value], axis: int = 3) -> Value:
        return self.add("concat", values, ConcatAttrs(axis))

    def split(self, x: Value, sizes: Sequence[int]) -> tuple[Value, ...]:
        return self.add_all("split", [x], SplitAttrs(3, tuple(sizes)))

    def build(self, *outputs: Value) -> Graph:
        graph = Graph(self.name, tuple(self.inputs), outputs, self.constants, tuple(self.nodes))
        return lowered(graph)


def residual_net(name: str = "residual") -> Graph:
    """A residual block with a depthwise branch, two pools side by side, dense, softmax."""
    net = Int8Net(name, 3)
    x = net.input(1, 8, 8, 3)
    head = net.conv(x, 8, 3, 2)
    branch = net.conv(net.depthwise(head), 8, 1)
    joined = net.add("add", [head, branch])
    both = net.concat([net.pool("max_pool", joined, 2, 2), net.pool("average_pool", joined, 2, 2)])
    return net.build(net.add("softmax", [net.dense(both, 5)]))


def bottleneck_net(
    seed: int, rows: int = 36, kernel: int = 3, stride: int = 2, *, dilation: int = 1
) -> Graph:
    """A wide layer of high resolution between narrow ones, as at the start of many networks."""
    net = Int8Net("bottleneck", seed)
    x = net.input(1, rows, 20, 4)
    narrow = net.conv(x, 4, 1)
    wide = net.conv(narrow, 48, 1)
    deep = net.depthwise(wide, kernel, stride)
    if dilation > 1:
        node = net.nodes[-1]
        spread = (kernel // 2) * dilation
        attrs = replace(node.attrs, dilations=(dilation, 1), pads=(spread, 1, spread, 1))
        net.nodes[-1] = replace(node, attrs=attrs)
    return net.build(net.conv(net.conv(deep, 8, 1), 8, 3, 4))

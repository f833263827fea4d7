"""The operators of the training graph as small graphs, with inputs and state: for every target.

`training_cases()` gives one graph per case: the node, its activations as graph inputs, its
constants, and its state with the updates. `case.inputs(seed)` and `case.state(seed)` are arrays.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinsmith.ir.dtypes import Array, DType, Quant, TensorType, int8
from tinsmith.ir.graph import Graph, Node, Origin, Stage, Value
from tinsmith.ops import get
from tinsmith.ops._convolution import ConvolutionAttrs
from tinsmith.ops.conv2d_input_gradient import InputGradientAttrs
from tinsmith.ops.conv2d_trainable import Conv2dTrainableAttrs
from tinsmith.ops.pool_gradient import GatherChannelsAttrs, PoolGradientAttrs
from tinsmith.ops.quantize_gradient import ClipMaskAttrs, mask_bytes
from tinsmith.ops.sum_gradients import (
    ReduceGradientAttrs,
    SpreadGradientAttrs,
    SumGradientsAttrs,
)
from tinsmith.ops.training_loss import LossAttrs, exponentials
from tinsmith.ops.weight_update import WeightUpdateAttrs, moving_shape, residual_start
from tinsmith.quant.arithmetic import quantize_multipliers

PLAIN = ConvolutionAttrs()
RULES = ("residual8", "residual4", "stochastic", "nearest")
F32, I32 = DType.FLOAT32, DType.INT32


@dataclass(frozen=True)
class TrainingCase:
    name: str
    graph: Graph

    def inputs(self, seed: int = 0) -> list[Array]:
        """Odd seeds are extreme: int8 at its ends, gradients over many magnitudes, zeros."""
        rng = np.random.default_rng(seed + zlib.crc32(self.name.encode()))
        return [_draw(v, rng, seed) for v in self.graph.inputs]

    def state(self, seed: int = 0) -> dict[Value, Array]:
        """Of the initializers that are updated; the residual is drawn too."""
        rng = np.random.default_rng(seed + 1 + zlib.crc32(self.name.encode()))
        return {v: _draw_state(v, self.graph.initializers[v], rng) for v in self.graph.state}


@dataclass(frozen=True)
class Layer:
    """A convolution in its three directions. update: moving channels of a depthwise one."""

    name: str
    size: tuple[int, int, int]
    out: int
    kernel: tuple[int, int] = (1, 1)
    window: ConvolutionAttrs = PLAIN
    trained: tuple[int, ...] = ()
    update: tuple[int, ...] = ()


SAME3 = (1, 1, 1, 1)
LAYERS = (
    Layer("pointwise_whole", (4, 4, 8), 12, trained=tuple(range(8))),
    Layer("pointwise_part", (5, 3, 16), 9, trained=(1, 2, 7, 8, 15)),
    Layer("pointwise_frozen", (3, 5, 7), 10),
    Layer("pointwise_wide", (4, 4, 48), 36, trained=tuple(range(0, 48, 2))),
    Layer("pointwise_stride2", (5, 6, 4), 8, window=ConvolutionAttrs((2, 2)), trained=(0, 3)),
    Layer("one_pixel", (1, 1, 40), 10, trained=tuple(range(40))),
    Layer("same_3x3", (6, 5, 4), 6, (3, 3), ConvolutionAttrs(pads=SAME3), (0, 1, 2, 3)),
    Layer("same_3x3_part", (6, 6, 5), 4, (3, 3), ConvolutionAttrs((2, 2), SAME3), (1, 4)),
    Layer("dilated", (9, 8, 3), 4, (3, 3), ConvolutionAttrs((1, 2), (2, 2, 2, 2), (2, 2)), (2,)),
    Layer("uneven", (7, 8, 2), 5, (4, 3), ConvolutionAttrs((2, 1), (1, 0, 2, 1)), (0, 1)),
    Layer("depthwise", (6, 7, 12), 12, (3, 3), ConvolutionAttrs(pads=SAME3, groups=12), (0,)),
    Layer(
        "depthwise_part", (8, 7, 10), 10, (5, 5),
        ConvolutionAttrs((2, 2), (2, 2, 2, 2), groups=10), (0,), (1, 4, 5, 9),
    ),
    Layer("depthwise_frozen", (8, 8, 6), 6, (7, 7), ConvolutionAttrs((1, 1), (3,) * 4, groups=6)),
    Layer("grouped", (5, 5, 8), 12, (3, 3), ConvolutionAttrs(pads=SAME3, groups=4), (0, 1)),
)  # fmt: skip


def training_cases() -> list[TrainingCase]:
    """All cases; names are `<operator>.<case>`, unique."""
    cases = [make(layer) for layer in LAYERS for make in (_forward, _to_input)]
    cases += [
        _to_weights(layer, rule)
        for layer in LAYERS
        for rule in RULES
        if layer.trained and (rule == "residual8" or layer.name in _EVERY_RULE)
    ]
    return [*cases, *_bias_cases(), *_quantize_cases(), *_elementwise_cases(), *_loss_cases()]


_EVERY_RULE = ("pointwise_part", "one_pixel", "depthwise_part", "same_3x3_part")


def _forward(layer: Layer) -> TrainingCase:
    rng = _rng("conv2d_trainable", layer.name)
    h, w, c = layer.size
    x = Value("x", int8((1, h, w, c), 0.05, 11))
    frozen, trained, arrays = _filters(layer, rng)
    terms = layer.kernel[0] * layer.kernel[1] * c // layer.window.groups
    multiplier, shift = quantize_multipliers(rng.uniform(0.5, 2.0, layer.out) / 60 / terms**0.5)
    constants = {
        frozen: arrays[0],
        trained: arrays[1],
        Value("bias", TensorType((layer.out,), I32)): _biases(layer, rng),
        Value("multiplier", TensorType((layer.out,), I32)): multiplier,
        Value("shift", TensorType((layer.out,), I32)): shift,
    }  # fmt: skip
    a = layer.window
    attrs = Conv2dTrainableAttrs(
        a.strides, a.pads, a.dilations, a.groups, layer.trained, layer.update, False, (-100, 120)
    )
    return _case("conv2d_trainable", layer.name, [x, *constants], constants, attrs,
                 quant=Quant.per_tensor(0.1, -5))  # fmt: skip


def _to_input(layer: Layer) -> TrainingCase:
    rng = _rng("conv2d_input_gradient", layer.name)
    frozen, trained, arrays = _filters(layer, rng)
    a, shape = layer.window, (1, *layer.size)
    attrs = InputGradientAttrs(a.strides, a.pads, a.dilations, a.groups, layer.trained, shape)
    constants = {frozen: arrays[0], trained: arrays[1]}
    inputs = [_gradient(layer), Value("exponent", TensorType((1,), I32)), *constants]
    return _case("conv2d_input_gradient", layer.name, inputs, constants, attrs)


def _to_weights(layer: Layer, rule: str) -> TrainingCase:
    rng = _rng("weight_update", layer.name)
    a = layer.window
    attrs = WeightUpdateAttrs(a.strides, a.pads, a.dilations, a.groups, rule, layer.update)
    h, w, c = layer.size
    saved = len(layer.update) or (len(layer.trained) if a.groups == 1 else c)
    _, trained, arrays = _filters(layer, rng)
    coefficient = rng.uniform(1e4, 1e6, layer.out).astype(np.float32)
    coefficient[layer.out // 3] = 0
    start = residual_start(attrs, trained.type.shape, layer.name)
    constants = {
        Value("coefficient", TensorType((layer.out,), F32)): coefficient,
        trained: arrays[1],
        Value("bias", TensorType((layer.out,), I32)): _biases(layer, rng),
    }  # fmt: skip
    if start is not None:
        state = Value("residual", TensorType(start.shape, DType(start.dtype.name)))
        constants[state] = start
    inputs = [
        _gradient(layer),
        Value("exponent", TensorType((1,), I32)),
        Value("x", int8((1, h, w, saved), 0.05, -7)),
        Value("learning_rate", TensorType((1,), F32)),
        *constants,
    ]
    assert moving_shape(attrs, trained.type.shape)[0] == (len(layer.update) or layer.out)
    return _case("weight_update", f"{layer.name}_{rule}", inputs, constants, attrs,
                 updates=list(constants)[1:])  # fmt: skip


def _bias_cases() -> list[TrainingCase]:
    cases: list[TrainingCase] = []
    for h, w, c in ((4, 4, 16), (1, 1, 10), (7, 5, 3)):
        rng = _rng("bias_update", f"{c}")
        coefficient = rng.uniform(1e5, 1e9, c).astype(np.float32)
        coefficient[c // 2] = 0
        constants = {
            Value("coefficient", TensorType((c,), F32)): coefficient,
            Value("bias", TensorType((c,), I32)): rng.integers(-(2**30), 2**30, c, np.int32),
        }
        inputs = [
            Value("g", TensorType((1, h, w, c), DType.INT8)),
            Value("exponent", TensorType((1,), I32)),
            Value("learning_rate", TensorType((1,), F32)),
            *constants,
        ]
        cases.append(
            _case("bias_update", f"{h}x{w}x{c}", inputs, constants, updates=list(constants)[1:])
        )
    return cases


def _quantize_cases() -> list[TrainingCase]:
    cases: list[TrainingCase] = []
    for h, w, c, masked in ((4, 4, 16, True), (3, 5, 7, True), (1, 1, 10, False), (1, 1, 3, True)):
        rng = _rng("quantize_gradient", f"{c}")
        factor = rng.uniform(1e-4, 1e-2, c).astype(np.float32)
        factor[c // 2] = 0
        constants = {Value("factor", TensorType((c,), F32)): factor}
        inputs = [Value("dy", TensorType((1, h, w, c), F32)), *constants]
        mask = Value("mask", TensorType((mask_bytes(h * w * c),), DType.UINT8))
        inputs += [mask] if masked else []
        name = f"{h}x{w}x{c}" + "_masked" * masked
        cases.append(_case("quantize_gradient", name, inputs, constants))
        dy = inputs[0]
        if masked:
            cases.append(_case("mask_gradient", name, [dy, mask], {}))
            y = Value("y", int8((1, h, w, c), 0.1, 0))
            attrs = ClipMaskAttrs(-128, 127) if c == 7 else ClipMaskAttrs(-20, 90)
            cases.append(_case("clip_mask", name, [y], {}, attrs))
    return cases


def _elementwise_cases() -> list[TrainingCase]:
    dy = Value("dy", TensorType((1, 4, 3, 5), F32))
    other = Value("dy2", dy.type)
    x = Value("x", int8((1, 4, 3, 5), 0.1, 9))
    gate = Value("gate", int8((1, 1, 1, 5), 0.1, -9))
    slope = {Value("slope", TensorType((256,), F32)): np.linspace(-1, 2, 256, dtype=np.float32)}
    mean = Value("dy", TensorType((1, 1, 1, 5), F32))
    row = Value("dy", TensorType((1, 5), F32))
    spread = SpreadGradientAttrs((1, 4, 3, 5), (1, 2))
    sums = SumGradientsAttrs(0.3, 1.7)
    cases = [
        _case("sum_gradients", "two", [dy, other], {}, sums),
        _case("sum_gradients", "ones", [dy, other], {}, SumGradientsAttrs()),
        _case("spread_gradient", "mean", [mean], {}, spread),
        _case("spread_gradient", "mean_dropped", [row], {}, spread),
        _case("reduce_gradient", "gate", [dy], {}, ReduceGradientAttrs((1, 1, 1, 5))),
        _case("reduce_gradient", "middle", [dy], {}, ReduceGradientAttrs((1, 4, 1, 5))),
        _case("reduce_gradient", "scalar", [dy], {}, ReduceGradientAttrs((1,))),
        _case("mul_gradient", "equal", [dy, x], {}),
        _case("mul_gradient", "gate", [dy, gate], {}),
        _case("lookup_gradient", "slope", [dy, x, *slope], slope),
        _case("gather_channels", "some", [x], {}, GatherChannelsAttrs((0, 2, 3))),
        _case("gather_channels", "last", [x], {}, GatherChannelsAttrs((4,))),
    ]
    return [*cases, *_pool_cases()]


def _pool_cases() -> list[TrainingCase]:
    cases: list[TrainingCase] = []
    for name, size, kernel, strides, pads in (
        ("2x2", (6, 4, 5), (2, 2), (2, 2), (0, 0, 0, 0)),
        ("3x3_overlap", (7, 5, 3), (3, 3), (2, 1), (1, 1, 1, 1)),
    ):
        attrs = PoolGradientAttrs(kernel, strides, pads, (1, 1), False, "NHWC", shape=(1, *size))
        oh = (size[0] + pads[0] + pads[2] - kernel[0]) // strides[0] + 1
        ow = (size[1] + pads[1] + pads[3] - kernel[1]) // strides[1] + 1
        dy = Value("dy", TensorType((1, oh, ow, size[2]), F32))
        rng = _rng("pool", name)
        weight = {Value("weight", TensorType((oh, ow), F32)): rng.random((oh, ow), np.float32)}
        cases.append(_case("average_pool_gradient", name, [dy, *weight], weight, attrs))
        x = Value("x", int8((1, *size), 0.1, 0))
        cases.append(_case("max_pool_gradient", name, [dy, x], {}, attrs))
    return cases


def _loss_cases() -> list[TrainingCase]:
    cases: list[TrainingCase] = []
    for classes, scale in ((10, 0.125), (2, 1.5), (37, 0.02)):
        logits = Value("logits", int8((1, classes), scale, 3))
        label = Value("label", TensorType((1,), I32))
        table = {Value("exponentials", TensorType((256,), F32)): exponentials(scale)}
        cases.append(
            _case("softmax_cross_entropy", f"{classes}", [logits, label, *table], table,
                  LossAttrs(scale))
        )  # fmt: skip
    y = Value("y", int8((1, 40), 0.3, 3))
    cases.append(_case("mse_loss", "40", [y, Value("target", y.type)], {}, LossAttrs(0.3)))
    return cases


def _biases(layer: Layer, rng: np.random.Generator) -> Array:
    return rng.integers(-4000, 4000, layer.out, np.int32)


def _filters(layer: Layer, rng: np.random.Generator) -> tuple[Value, Value, list[Array]]:
    per_group = layer.size[2] // layer.window.groups
    quant = Quant(tuple(rng.uniform(0.001, 0.01, layer.out).tolist()), (0,) * layer.out, 0)
    found: list[Value] = []
    arrays: list[Array] = []
    sizes = {"frozen": per_group - len(layer.trained), "trained": len(layer.trained)}
    for name, channels in sizes.items():
        shape = (layer.out, *layer.kernel, channels)
        found.append(Value(name, TensorType(shape, DType.INT8, quant)))
        arrays.append(rng.integers(-127, 128, shape, np.int8))
    return found[0], found[1], arrays


def _gradient(layer: Layer) -> Value:
    a = layer.window
    size = [
        (layer.size[i] + a.pads[i] + a.pads[i + 2] - a.dilations[i] * (layer.kernel[i] - 1) - 1)
        // a.strides[i] + 1
        for i in (0, 1)
    ]  # fmt: skip
    return Value("g", TensorType((1, *size, layer.out), DType.INT8))


def _case(
    op: str,
    name: str,
    inputs: Sequence[Value],
    constants: dict[Value, Array],
    attrs: Any = None,
    *,
    quant: Quant | None = None,
    updates: Sequence[Value] = (),
) -> TrainingCase:
    record = get(op)
    attrs = record.attrs() if attrs is None else attrs
    types = record.infer([v.type for v in inputs], attrs)
    outputs = tuple(
        Value(f"y{i}", TensorType(t.shape, t.dtype, quant)) for i, t in enumerate(types)
    )
    node = Node(record, tuple(inputs), outputs, attrs, Origin(name, op))
    graph = Graph(
        f"{op}_{name}",
        tuple(v for v in inputs if v not in constants),
        outputs if not updates else outputs[len(updates) :],
        constants,
        (node,),
        Stage.TRAINING,
        updates=tuple(zip(updates, outputs, strict=False)),
    )
    return TrainingCase(f"{op}.{name}", graph)


def _draw(value: Value, rng: np.random.Generator, seed: int) -> Array:
    shape, extreme = value.type.shape, seed % 2 == 1
    if value.name == "label":
        return rng.integers(0, 2, 1, np.int32)
    if value.name == "exponent":
        return rng.integers(-24, -8, 1, np.int32)
    if value.name == "learning_rate":
        return np.array([10.0 ** rng.uniform(-6, 0 if extreme else -3)], np.float32)
    if value.type.dtype is DType.UINT8:
        return rng.integers(0, 256, shape, np.uint8)
    if value.type.dtype is DType.INT8:
        if extreme:
            return rng.choice(np.array([-127, 127, 0, 127], np.int8), shape)
        return rng.integers(-127, 128, shape, np.int8)
    spread = 10.0 ** rng.uniform(-8, 2, shape) if extreme else 1.0
    dense = rng.normal(0, 1, shape) * spread
    if seed % 4 == 3:
        dense = dense * 0
    return dense.astype(np.float32)


def _draw_state(value: Value, start: Array, rng: np.random.Generator) -> Array:
    if value.name != "residual":
        return start
    if value.type.dtype is DType.UINT32:
        return rng.integers(1, 2**32, 1, np.uint32)
    low, high = value.type.dtype.range
    drawn = rng.integers(low, high + 1, value.type.shape, value.type.dtype.numpy)
    if value.type.dtype is DType.UINT8 and value.type.elements:
        drawn[-1] &= 15  # the high nibble past the end stays 0
    return drawn


def _rng(op: str, name: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(f"{op}.{name}".encode()))

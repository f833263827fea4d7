"""The operators of the training graph as small graphs, with inputs and state: for every target.

`training_cases()` gives one graph per case: the node, its activations as graph inputs, its
constants, and its state with the updates. `case.inputs(seed)` and `case.state(seed)` are arrays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinsmith.ir.dtypes import Array, DType, Quant, TensorType, int8
from tinsmith.ir.graph import Value
from tinsmith.ops._convolution import ConvolutionAttrs
from tinsmith.ops.conv2d_float import Conv2dFloatAttrs
from tinsmith.ops.conv2d_input_gradient import InputGradientAttrs
from tinsmith.ops.conv2d_trainable import Conv2dTrainableAttrs
from tinsmith.ops.sgd_update import SgdWeightsAttrs
from tinsmith.ops.weight_update import WeightUpdateAttrs, moving_shape, residual_start
from tinsmith.quant.arithmetic import quantize_multipliers

from .training_case import TrainingCase, make_case, rng_of
from .training_float_cases import float_cases, real
from .training_small_cases import (
    bias_cases,
    elementwise_cases,
    exponent_of,
    loss_cases,
    quantize_cases,
)
from .training_velocity_cases import decaying_cases, velocity_cases

PLAIN = ConvolutionAttrs()
RULES = ("residual8", "residual4", "stochastic", "nearest")
F32, I32 = DType.FLOAT32, DType.INT32


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
    Layer("pointwise_tail", (3, 5, 10), 12),
    Layer("pointwise_rest", (3, 5, 10), 12, trained=(1, 2, 6, 9)),
    Layer("pointwise_long", (2, 2, 136), 8),
    Layer("pointwise_deep", (3, 2, 5), 40, trained=(1, 4)),
    Layer("pointwise_odd", (3, 3, 7), 8, trained=(0, 3, 6)),
    Layer("pointwise_many", (9, 9, 28), 9, trained=tuple(range(1, 25))),
    Layer("pointwise_seven", (7, 7, 12), 10, trained=tuple(range(12))),
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
    Layer(
        "depthwise_quads", (7, 6, 8), 8, (5, 5),
        ConvolutionAttrs((2, 2), (2, 1, 2, 2), groups=8), (0,), (1, 4, 6),
    ),
    Layer(
        "depthwise_stride2", (6, 6, 8), 8, (3, 3),
        ConvolutionAttrs((2, 2), SAME3, groups=8), (0,),
    ),
    Layer("depthwise_wide", (4, 4, 16), 16, (7, 7), ConvolutionAttrs(pads=(3,) * 4, groups=16)),
    Layer(
        "depthwise_dilated", (9, 8, 4), 4, (3, 2),
        ConvolutionAttrs((2, 1), (2, 1, 2, 1), (2, 3), 4), (0,),
    ),
    Layer("depthwise_broad", (7, 13, 8), 8, (5, 5), ConvolutionAttrs(pads=(2,) * 4, groups=8)),
    Layer("grouped", (5, 5, 8), 12, (3, 3), ConvolutionAttrs(pads=SAME3, groups=4), (0, 1)),
)  # fmt: skip


def training_cases() -> list[TrainingCase]:
    """All cases; names are `<operator>.<case>`, unique."""
    cases = [_forward(layer) for layer in LAYERS]
    cases += [c for n in LAYERS if n.name in _IN_FLOAT for c in _float_layer(n)] + float_cases()
    cases += [_to_input(layer, dtype) for layer in LAYERS for dtype in (DType.INT8, F32)]
    cases += [
        _to_weights(layer, rule, dtype)
        for layer in LAYERS
        for dtype in (DType.INT8, F32)
        for rule in RULES
        if layer.trained and (rule == "residual8" or layer.name in _EVERY_RULE)
    ]
    updates = [c for c in cases if c.graph.nodes[0].op.name == "weight_update"]
    cases += [*velocity_cases([*updates, *bias_cases()]), *decaying_cases(updates[::3])]
    return [*cases, *bias_cases(), *quantize_cases(), *elementwise_cases(), *loss_cases()]


_IN_FLOAT = (
    "pointwise_part", "pointwise_frozen", "one_pixel", "same_3x3_part", "dilated", "uneven",
    "depthwise_part", "depthwise_dilated", "grouped",
)  # fmt: skip
_EVERY_RULE = (
    "pointwise_part", "pointwise_rest", "one_pixel", "depthwise_part", "same_3x3_part",
)  # fmt: skip


def _float_layer(layer: Layer) -> list[TrainingCase]:
    """A layer of a float32 network in its three directions."""
    frozen, trained, (kept, moving) = _float_filters(layer)
    bias = real("bias", layer.out)
    rng, a = rng_of("conv2d_float", layer.name), layer.window
    window = (a.strides, a.pads, a.dilations, a.groups)
    filters = {frozen: kept, trained: moving}
    constants = {**filters, bias: rng.normal(0, 1, layer.out).astype(np.float32)}
    attrs = Conv2dFloatAttrs(*window, layer.trained, layer.update, False, (-1.5, float("inf")))
    x, g = real("x", 1, *layer.size), _gradient(layer, F32)
    cases = [make_case("conv2d_float", layer.name, [x, *constants], constants, attrs)]
    exponent, zero = exponent_of(F32)
    back = InputGradientAttrs(*window, layer.trained, (1, *layer.size))
    inputs = [g, exponent, *filters]
    name = f"{layer.name}_real"
    cases.append(make_case("conv2d_input_gradient", name, inputs, {**zero, **filters}, back))
    if layer.trained:
        saved = len(layer.update) or (len(layer.trained) if a.groups == 1 else layer.size[2])
        own = SgdWeightsAttrs(*window, 0.75, layer.update)
        inputs = [g, real("x", 1, *layer.size[:2], saved), real("learning_rate", 1), trained]
        state = {trained: moving}
        cases.append(make_case("sgd_weights", layer.name, inputs, state, own, updates=[trained]))
    return cases


def _float_filters(layer: Layer) -> tuple[Value, Value, list[Array]]:
    rng = rng_of("float_filters", layer.name)
    per_group = layer.size[2] // layer.window.groups
    shapes = [
        (layer.out, *layer.kernel, channels)
        for channels in (per_group - len(layer.trained), len(layer.trained))
    ]
    arrays = [rng.normal(0, 1, shape).astype(np.float32) for shape in shapes]
    return real("frozen", *shapes[0]), real("trained", *shapes[1]), arrays


def _forward(layer: Layer) -> TrainingCase:
    rng = rng_of("conv2d_trainable", layer.name)
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
    return make_case("conv2d_trainable", layer.name, [x, *constants], constants, attrs,
                 quant=Quant.per_tensor(0.1, -5))  # fmt: skip


def _to_input(layer: Layer, dtype: DType) -> TrainingCase:
    rng = rng_of("conv2d_input_gradient", layer.name)
    frozen, trained, arrays = _filters(layer, rng)
    a, shape = layer.window, (1, *layer.size)
    attrs = InputGradientAttrs(a.strides, a.pads, a.dilations, a.groups, layer.trained, shape)
    filters = {frozen: arrays[0], trained: arrays[1]}
    exponent, constants = exponent_of(dtype)
    inputs = [_gradient(layer, dtype), exponent, *filters]
    name = layer.name + "_float" * (dtype is F32)
    return make_case("conv2d_input_gradient", name, inputs, {**constants, **filters}, attrs)


def _to_weights(layer: Layer, rule: str, dtype: DType) -> TrainingCase:
    rng = rng_of("weight_update", layer.name)
    a = layer.window
    attrs = WeightUpdateAttrs(a.strides, a.pads, a.dilations, a.groups, rule, layer.update)
    h, w, c = layer.size
    saved = len(layer.update) or (len(layer.trained) if a.groups == 1 else c)
    _, trained, arrays = _filters(layer, rng)
    coefficient = rng.uniform(1e4, 1e6, layer.out).astype(np.float32)
    coefficient[layer.out // 3] = 0
    start = residual_start(attrs, trained.type.shape, layer.name)
    exponent, constants = exponent_of(dtype)
    own = {
        Value("coefficient", TensorType((layer.out,), F32)): coefficient,
        trained: arrays[1],
        Value("bias", TensorType((layer.out,), I32)): _biases(layer, rng),
    }  # fmt: skip
    if start is not None:
        state = Value("residual", TensorType(start.shape, DType(start.dtype.name)))
        own[state] = start
    inputs = [
        _gradient(layer, dtype),
        exponent,
        Value("x", int8((1, h, w, saved), 0.05, -7)),
        Value("learning_rate", TensorType((1,), F32)),
        *own,
    ]
    assert moving_shape(attrs, trained.type.shape)[0] == (len(layer.update) or layer.out)
    name = f"{layer.name}_{rule}" + "_float" * (dtype is F32)
    return make_case("weight_update", name, inputs, {**constants, **own}, attrs,
                 updates=list(own)[1:])  # fmt: skip


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


def _gradient(layer: Layer, dtype: DType) -> Value:
    a = layer.window
    size = [
        (layer.size[i] + a.pads[i] + a.pads[i + 2] - a.dilations[i] * (layer.kernel[i] - 1) - 1)
        // a.strides[i] + 1
        for i in (0, 1)
    ]  # fmt: skip
    return Value("g", TensorType((1, *size, layer.out), dtype))

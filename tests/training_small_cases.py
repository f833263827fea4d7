"""Cases of the training operators that have no window: losses, masks, sums, pools, biases."""

from __future__ import annotations

import numpy as np

from tinsmith.ir.dtypes import Array, DType, TensorType, int8
from tinsmith.ir.graph import Value
from tinsmith.ops.pool_gradient import GatherChannelsAttrs, PoolGradientAttrs
from tinsmith.ops.quantize_gradient import ClipMaskAttrs, mask_bytes
from tinsmith.ops.sum_gradients import (
    ReduceGradientAttrs,
    SpreadGradientAttrs,
    SumGradientsAttrs,
)
from tinsmith.ops.training_loss import LossAttrs, exponentials

from .training_case import TrainingCase, make_case, rng_of

F32, I32 = DType.FLOAT32, DType.INT32


_QUANTIZED = (
    (4, 4, 16, True),
    (3, 5, 7, True),
    (1, 1, 10, False),
    (1, 3, 8, False),
    (1, 1, 3, True),
)  # height, width, channels, whether masked


def quantize_cases() -> list[TrainingCase]:
    cases: list[TrainingCase] = []
    for h, w, c, masked in _QUANTIZED:
        rng = rng_of("quantize_gradient", f"{c}")
        factor = rng.uniform(1e-4, 1e-2, c).astype(np.float32)
        factor[c // 2] = 0
        constants = {Value("factor", TensorType((c,), F32)): factor}
        inputs = [Value("dy", TensorType((1, h, w, c), F32)), *constants]
        mask = Value("mask", TensorType((mask_bytes(h * w * c),), DType.UINT8))
        inputs += [mask] if masked else []
        name = f"{h}x{w}x{c}" + "_masked" * masked
        cases.append(make_case("quantize_gradient", name, inputs, constants))
        cases.append(make_case("scale_gradient", name, inputs, constants))
        dy = inputs[0]
        if masked:
            cases.append(make_case("mask_gradient", name, [dy, mask], {}))
            y = Value("y", int8((1, h, w, c), 0.1, 0))
            attrs = ClipMaskAttrs(-128, 127) if c == 7 else ClipMaskAttrs(-20, 90)
            cases.append(make_case("clip_mask", name, [y], {}, attrs))
    return cases


def elementwise_cases() -> list[TrainingCase]:
    dy = Value("dy", TensorType((1, 4, 3, 5), F32))
    other = Value("dy2", dy.type)
    x = Value("x", int8((1, 4, 3, 5), 0.1, 9))
    gate = Value("gate", int8((1, 1, 1, 5), 0.1, -9))
    slope = {Value("slope", TensorType((256,), F32)): np.linspace(-1, 2, 256, dtype=np.float32)}
    wide = Value("x", int8((1, 4, 3, 70), 0.1, 3))
    mean = Value("dy", TensorType((1, 1, 1, 5), F32))
    row = Value("dy", TensorType((1, 5), F32))
    spread = SpreadGradientAttrs((1, 4, 3, 5), (1, 2))
    sums = SumGradientsAttrs(0.3, 1.7)
    cases = [
        make_case("sum_gradients", "two", [dy, other], {}, sums),
        make_case("sum_gradients", "ones", [dy, other], {}, SumGradientsAttrs()),
        make_case("spread_gradient", "mean", [mean], {}, spread),
        make_case("spread_gradient", "mean_dropped", [row], {}, spread),
        make_case("reduce_gradient", "gate", [dy], {}, ReduceGradientAttrs((1, 1, 1, 5))),
        make_case("reduce_gradient", "middle", [dy], {}, ReduceGradientAttrs((1, 4, 1, 5))),
        make_case("reduce_gradient", "scalar", [dy], {}, ReduceGradientAttrs((1,))),
        make_case("mul_gradient", "equal", [dy, x], {}),
        make_case("mul_gradient", "gate", [dy, gate], {}),
        make_case("lookup_gradient", "slope", [dy, x, *slope], slope),
        make_case("gather_channels", "some", [x], {}, GatherChannelsAttrs((0, 2, 3))),
        make_case("gather_channels", "last", [x], {}, GatherChannelsAttrs((4,))),
        make_case(
            "gather_channels", "many", [wide], {}, GatherChannelsAttrs(tuple(range(1, 70, 2)))
        ),
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
        rng = rng_of("pool", name)
        weight = {Value("weight", TensorType((oh, ow), F32)): rng.random((oh, ow), np.float32)}
        cases.append(make_case("average_pool_gradient", name, [dy, *weight], weight, attrs))
        x = Value("x", int8((1, *size), 0.1, 0))
        cases.append(make_case("max_pool_gradient", name, [dy, x], {}, attrs))
    return cases


def loss_cases() -> list[TrainingCase]:
    cases: list[TrainingCase] = []
    for classes, scale in ((10, 0.125), (2, 1.5), (37, 0.02)):
        logits = Value("logits", int8((1, classes), scale, 3))
        label = Value("label", TensorType((1,), I32))
        table = {Value("exponentials", TensorType((256,), F32)): exponentials(scale)}
        cases.append(
            make_case("softmax_cross_entropy", f"{classes}", [logits, label, *table], table,
                  LossAttrs(scale))
        )  # fmt: skip
    y = Value("y", int8((1, 40), 0.3, 3))
    cases.append(make_case("mse_loss", "40", [y, Value("target", y.type)], {}, LossAttrs(0.3)))
    return cases


def exponent_of(dtype: DType) -> tuple[Value, dict[Value, Array]]:
    """The exponent of a gradient, and its array when it is a constant."""
    value = Value("exponent", TensorType((1,), I32))
    return value, {value: np.zeros(1, np.int32)} if dtype is F32 else {}


def bias_cases() -> list[TrainingCase]:
    sizes = (4, 4, 16), (1, 1, 10), (7, 5, 3), (17, 16, 24)
    return [_bias_case(*s, dtype) for s in sizes for dtype in (DType.INT8, F32)]


def _bias_case(h: int, w: int, c: int, dtype: DType) -> TrainingCase:
    rng = rng_of("bias_update", f"{c}")
    coefficient = rng.uniform(1e5, 1e9, c).astype(np.float32)
    coefficient[c // 2] = 0
    exponent, constants = exponent_of(dtype)
    own = {
        Value("coefficient", TensorType((c,), F32)): coefficient,
        Value("bias", TensorType((c,), I32)): rng.integers(-(2**30), 2**30, c, np.int32),
    }
    inputs = [
        Value("g", TensorType((1, h, w, c), dtype)),
        exponent,
        Value("learning_rate", TensorType((1,), F32)),
        *own,
    ]
    name = f"{h}x{w}x{c}" + "_float" * (dtype is F32)
    return make_case("bias_update", name, inputs, {**constants, **own}, updates=list(own)[1:])

"""Cases of the operators of float32 networks that learn; see training_cases.py."""

from __future__ import annotations

import numpy as np

from tinsmith.ir.dtypes import DType, TensorType
from tinsmith.ir.graph import Value
from tinsmith.ops.average_pool import AveragePoolAttrs
from tinsmith.ops.clamp_mask import ClampMaskAttrs
from tinsmith.ops.pool_gradient import GatherChannelsAttrs, PoolGradientAttrs
from tinsmith.ops.reduce_mean import ReduceMeanAttrs
from tinsmith.ops.sgd_update import SgdBiasAttrs

from .training_case import TrainingCase, make_case, rng_of

F32, I32 = DType.FLOAT32, DType.INT32
INF = float("inf")


def real(name: str, *shape: int) -> Value:
    return Value(name, TensorType(shape, F32))


def float_cases() -> list[TrainingCase]:
    """All but those of layers."""
    row, grid = (1, 37), (1, 7, 5, 3)
    cases = [
        make_case("clamp_mask", "relu", [real("y", *grid)], {}, ClampMaskAttrs(low=0.0)),
        make_case("clamp_mask", "relu6", [real("y", 1, 4, 4, 2)], {}, ClampMaskAttrs(0.0, 6.0)),
        make_case("clamp_mask", "below", [real("y", 1, 3)], {}, ClampMaskAttrs(high=0.1)),
        make_case("gather_channels", "real", [real("x", *grid)], {}, GatherChannelsAttrs((0, 2))),
        make_case("mul_gradient", "real", [real("dy", *grid), real("other", *grid)], {}),
        make_case("mul_gradient", "real_gate", [real("dy", *grid), real("gate", 1, 1, 1, 3)], {}),
        make_case("float_mse", "row", [real("y", *row), real("target", *row)], {}),
        *_bias_cases(),
        *_mean_cases(),
    ]
    for classes in (10, 2, 37):
        inputs = [real("logits", 1, classes), Value("label", TensorType((1,), I32))]
        cases.append(make_case("float_cross_entropy", f"{classes}", inputs, {}))
    attrs = PoolGradientAttrs((3, 3), (2, 1), (1, 1, 1, 1), (1, 1), False, "NHWC", shape=grid)
    inputs = [real("dy", 1, 4, 5, 3), real("x", *grid)]
    return [*cases, make_case("max_pool_gradient", "real", inputs, {}, attrs)]


def _bias_cases() -> list[TrainingCase]:
    cases: list[TrainingCase] = []
    for h, w, c in ((4, 4, 16), (1, 1, 10), (7, 5, 3)):
        bias = real("bias", c)
        constants = {bias: rng_of("sgd_bias", f"{c}").normal(0, 1, c).astype(np.float32)}
        inputs = [real("g", 1, h, w, c), real("learning_rate", 1), bias]
        attrs = SgdBiasAttrs(0.25 if c == 3 else 1.0)
        cases.append(
            make_case("sgd_bias", f"{h}x{w}x{c}", inputs, constants, attrs, updates=[bias])
        )
    return cases


def _mean_cases() -> list[TrainingCase]:
    x = real("x", 1, 7, 5, 3)
    pools = {
        "same": AveragePoolAttrs((3, 3), (2, 1), (1, 1, 1, 1), layout="NHWC", clamp=(0.0, INF)),
        "counted": AveragePoolAttrs(
            (3, 2), (2, 2), (1, 1, 1, 0), layout="NHWC", count_include_pad=True
        ),
        "plain": AveragePoolAttrs((2, 2), (2, 2), layout="NHWC"),
    }
    means = {
        "spatial": ReduceMeanAttrs((1, 2)),
        "dropped": ReduceMeanAttrs((1, 2), keepdims=False, clamp=(-0.1, 0.1)),
        "last": ReduceMeanAttrs((3,)),
    }
    return [
        *(make_case("ordered_average_pool", name, [x], {}, a) for name, a in pools.items()),
        *(make_case("ordered_reduce_mean", name, [x], {}, a) for name, a in means.items()),
    ]

"""The integer arithmetic that every target shares."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tinsmith.ir.dtypes import DType, Quant, TensorType, int8
from tinsmith.quant.arithmetic import (
    accumulator_bounds,
    dequantize_array,
    lookup_table,
    quantize_array,
    quantize_clamp,
    quantize_multiplier,
    requantize,
    sum_constants,
)

FACTORS = st.floats(2.0**-31, 2.0**29)
ACCUMULATORS = st.integers(-(2**31), 2**31 - 1)


@given(FACTORS)
def test_multiplier_is_normalised_and_exact_to_31_bits(real: float) -> None:
    multiplier, shift = quantize_multiplier(real)
    assert 2**30 <= multiplier < 2**31
    assert abs(multiplier * 2.0 ** (shift - 31) / real - 1) <= 2.0**-31


@pytest.mark.parametrize("real", [0.0, 2.0**-64])
def test_vanishing_factor_is_multiplier_zero(real: float) -> None:
    assert quantize_multiplier(real) == (0, 0)


@pytest.mark.parametrize("real", [-1.0, float("inf"), float("nan"), 2.0**31])
def test_impossible_factor_is_refused(real: float) -> None:
    with pytest.raises(ValueError, match="factor"):
        quantize_multiplier(real)


def test_mantissa_that_rounds_up_to_one_is_renormalised() -> None:
    assert quantize_multiplier(1 - 2.0**-40) == (2**30, 1)


@settings(max_examples=300)
@given(ACCUMULATORS, FACTORS)
def test_requantize_is_one_rounding_half_up(acc: int, real: float) -> None:
    multiplier, shift = quantize_multiplier(real)
    if 31 - shift < 1:
        return
    exact = (2 * acc * multiplier + 2 ** (31 - shift)) // 2 ** (32 - shift)
    assert int(requantize(np.array(acc), multiplier, shift)) == exact


def test_ties_round_up() -> None:
    multiplier, shift = quantize_multiplier(0.5)
    got = requantize(np.array([-3, -1, 1, 3]), multiplier, shift)
    assert got.tolist() == [-1, 0, 1, 2]


@given(st.floats(0.001, 1.0), st.integers(-128, 127), st.integers(-128, 127))
def test_quantize_inverts_dequantize(scale: float, zero_point: int, q: int) -> None:
    type_ = int8((1,), float(np.float32(scale)), zero_point)
    array = np.array([q], np.int8)
    assert quantize_array(dequantize_array(array, type_), type_) == array


def test_quantize_rounds_half_to_even_and_saturates() -> None:
    type_ = int8((6,), 1.0, 0)
    real = np.array([0.5, 1.5, -0.5, -2.5, 1000, -1000], np.float32)
    assert quantize_array(real, type_).tolist() == [0, 2, 0, -2, 127, -128]


def test_per_channel_quantisation_broadcasts_along_its_axis() -> None:
    type_ = TensorType((2, 3), DType.INT8, Quant((1.0, 2.0, 4.0), (0, 1, 2), 1))
    assert quantize_array(np.full((2, 3), 8, np.float32), type_).tolist() == [[8, 5, 4]] * 2


def test_clamp_in_integers() -> None:
    type_ = int8((1,), 0.5, -10)
    assert quantize_clamp((0.0, 6.0), type_) == (-10, 2)
    assert quantize_clamp((float("-inf"), float("inf")), type_) == (-128, 127)
    assert quantize_clamp((-1000.0, 1000.0), type_) == (-128, 127)


def test_lookup_table_of_the_identity_is_the_identity() -> None:
    type_ = int8((1,), 0.1, 7)
    assert lookup_table(lambda x: x, type_, type_).tolist() == list(range(-128, 128))


SCALES = st.floats(1e-3, 1.0)
ZEROS = st.integers(-128, 127)


@settings(max_examples=15, deadline=None)
@example(0.0125, 0.001, 0.001, 0, 0, 0, 1)
@given(SCALES, SCALES, SCALES, ZEROS, ZEROS, ZEROS, st.sampled_from([1, -1]))
def test_sum_constants_count_the_pairs_that_differ(
    s1: float, s2: float, sy: float, z1: int, z2: int, zy: int, sign: int
) -> None:
    x1, x2, y = int8((1,), s1, z1), int8((1,), s2, z2), int8((1,), sy, zy)
    k = sum_constants(x1, x2, y, sign)
    q = np.arange(-128, 128, dtype=np.int64)
    terms = (q * k.a)[:, None] + (q * k.b)[None, :] + k.c
    assert np.abs(terms).max() < 2**31
    assert np.abs((q * k.a)[:, None] + k.c).max() < 2**31
    got = np.clip(terms >> k.n, -128, 127)
    real = ((q - z1) * s1)[:, None] + sign * ((q - z2) * s2)[None, :]
    want = np.clip(np.floor(real / sy + 0.5) + zy, -128, 127)
    error = np.abs(got - want)
    assert error.max() <= 1
    # on exact ties the two ways to compute the real sum may round apart
    doubled = 2 * real / sy
    ties = np.abs(doubled - np.rint(doubled)) < 1e-9 * np.maximum(1, np.abs(doubled))
    assert np.count_nonzero(error[~ties]) <= k.differing
    assert k.differing <= np.count_nonzero((error > 0) | ties)


def test_sum_of_equal_scales_is_exact() -> None:
    x = int8((1,), 0.05, 3)
    assert sum_constants(x, x, int8((1,), 0.1, -4)).differing == 0


def test_scales_too_far_apart_are_refused() -> None:
    tiny, huge = int8((1,), 1e-9, 0), int8((1,), 1e3, 0)
    with pytest.raises(ValueError, match="too far apart"):
        sum_constants(huge, huge, tiny)


def test_accumulator_bounds_are_tight() -> None:
    rng = np.random.default_rng(1)
    w = rng.integers(-127, 128, (4, 9), np.int8)
    bias = rng.integers(-1000, 1000, 4, np.int32)
    low, high = accumulator_bounds(w, bias, -128, 127, 5)
    worst = np.where(w > 0, 127, -128).astype(np.int64) - 5
    best = np.where(w > 0, -128, 127).astype(np.int64) - 5
    assert high.tolist() == ((w * worst).sum(1) + bias).tolist()
    assert low.tolist() == ((w * best).sum(1) + bias).tolist()

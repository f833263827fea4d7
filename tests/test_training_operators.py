"""The operators of the training graph: their cases run, and what they promise."""

from __future__ import annotations

import numpy as np
import pytest

from tinsmith.ir.interpret import run_step
from tinsmith.ir.parser import parse
from tinsmith.ir.printer import print_graph
from tinsmith.ir.verify import verify
from tinsmith.ops import registry
from tinsmith.ops._gradient import frozen_channels, power_of_two, shared_exponent
from tinsmith.ops._rounding import (
    nearest,
    pack_nibbles,
    stochastic,
    uniform24,
    unpack_nibbles,
    with_residual,
    xorshift32,
)
from tinsmith.ops.training_loss import natural_log

from .training_cases import TrainingCase, training_cases

CASES = [pytest.param(c, id=c.name) for c in training_cases()]


@pytest.mark.parametrize("case", CASES)
def test_a_case_runs_and_is_deterministic(case: TrainingCase) -> None:
    verify(case.graph)
    assert parse(print_graph(case.graph), registry()) == case.graph
    for seed in range(4):
        first = run_step(case.graph, case.inputs(seed), case.state(seed))
        again = run_step(case.graph, case.inputs(seed), case.state(seed))
        for a, b in zip(first[0], again[0], strict=True):
            assert np.array_equal(a, b)
        for value, array in first[1].items():
            assert np.array_equal(array, again[1][value])


def test_every_training_operator_has_a_case() -> None:
    covered = {c.graph.nodes[0].op.name for c in training_cases()}
    made = {
        name
        for name, op in registry().items()
        if "training_cases" in getattr(op.cases, "reason", "")
    }
    assert made == covered


def test_names_are_unique() -> None:
    names = [c.name for c in training_cases()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("peak", [1e-30, 1e-6, 126.9, 127.0, 127.00001, 254.0, 255.0, 3e38])
def test_the_exponent_is_the_smallest_that_holds(peak: float) -> None:
    t = np.array([0.0, -peak, peak / 3], np.float32)
    e = shared_exponent(t)
    top = abs(float(np.float32(peak)))
    assert top <= 127 * 2.0**e
    assert e == -126 or top > 127 * 2.0 ** (e - 1)
    assert float(power_of_two(e)) == 2.0**e


def test_zero_and_broken_gradients_have_the_lowest_exponent() -> None:
    assert shared_exponent(np.zeros(3, np.float32)) == -126
    assert shared_exponent(np.array([np.inf, 1], np.float32)) == -126
    assert shared_exponent(np.array([np.nan, 1], np.float32)) == -126


@pytest.mark.parametrize("bits", [8, 4])
def test_the_residual_loses_nothing_until_it_saturates(bits: int) -> None:
    """Many small steps equal their sum, to half of the residual's last place a step."""
    rng = np.random.default_rng(0)
    w, r, total = np.array([-90, 0, 60, 0]), np.zeros(4, np.int64), np.zeros(4)
    for _ in range(500):
        step = rng.normal(0.02, 0.05, 4).astype(np.float32)
        step = np.rint(step * 2**bits) / 2**bits  # on the residual's grid: nothing is rounded
        w, r = with_residual(w, r, step.astype(np.float32), bits)
        total += step
    assert np.array_equal(w + r / 2**bits, np.array([-90, 0, 60, 0]) - total)
    assert np.all(np.abs(r) <= 2 ** (bits - 1))


@pytest.mark.parametrize("step", [1e30, -1e30, np.inf, -np.inf, 300.0, -300.0])
def test_no_step_wraps(step: float) -> None:
    w = np.array([-127, -1, 0, 127])
    s = np.full(4, step, np.float32)
    expected = -127 if step > 0 else 127
    zero = np.zeros(4, np.int64)
    for bits in (8, 4):
        new, r = with_residual(w, zero, s, bits)
        assert np.all(new == expected)
        assert np.all((r >= -(2 ** (bits - 1))) & (r < 2 ** (bits - 1)))
        back, _ = with_residual(new, r, -np.sign(s) * np.float32(1), bits)
        assert np.all(np.abs(back) >= 125)  # a saturated residual does not block the way back
    assert np.all(nearest(w, s) == expected)
    assert np.all(stochastic(w, s, np.zeros(4, np.float32)) == expected)


def test_stochastic_rounding_is_unbiased_and_seeded() -> None:
    states, last = xorshift32(2463534242, 200_000)
    uniform = uniform24(states)
    assert 0 <= uniform.min() < 1e-4
    assert 1 - 1e-4 < uniform.max() < 1
    w = np.zeros(states.size, np.int64)
    moved = stochastic(w, np.full(states.size, 0.3, np.float32), uniform)
    assert abs(moved.mean() + 0.3) < 0.005
    again, same = xorshift32(2463534242, 200_000)
    assert np.array_equal(states, again)
    assert same == last
    head, middle = xorshift32(2463534242, 777)
    tail, _ = xorshift32(middle, 200_000 - 777)
    assert np.array_equal(np.concatenate([head, tail]), states)


def test_xorshift32_is_marsaglia_s() -> None:
    """The first number of Marsaglia's 2003 paper, after its default seed."""
    states, _ = xorshift32(2463534242, 1)
    assert states[0] == 723471715


@pytest.mark.parametrize("count", [0, 1, 2, 7, 8])
def test_nibbles_round_trip(count: int) -> None:
    r = np.random.default_rng(count).integers(-8, 8, count)
    packed = pack_nibbles(r)
    assert packed.size == -(-count // 2)
    assert np.array_equal(unpack_nibbles(packed, (count,)), r)


def test_natural_log_is_accurate() -> None:
    for x in np.geomspace(1, 4096, 3000).astype(np.float32):
        exact = np.log(np.float64(x))
        assert abs(float(natural_log(x)) - exact) <= 3e-7 * max(1.0, exact)


def test_dead_near_dead_and_saturated_channels_are_frozen() -> None:
    scales = np.array([1e-3, 2e-3, 4e-9, 9e-6, 1.1e-5, 1e-3])
    bias = np.array([0, 0, 0, 0, 0, 2**31 - 1], np.int32)
    assert frozen_channels(scales, bias).tolist() == [False, False, True, True, False, True]

"""The cheaper requantise forms of tuned kernels equal the rule on every accumulator they meet."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinsmith.ir.dtypes import Array, DType, Quant, TensorType, int8
from tinsmith.ir.graph import Graph, Node, Stage, Value
from tinsmith.kernels.dsp._uniform import Uniform, uniform
from tinsmith.kernels.dsp._weights import weight_words
from tinsmith.kernels.mve._weights import channel_groups, channels
from tinsmith.kernels.mve.depthwise import tap_groups
from tinsmith.kernels.packing import epilogue
from tinsmith.ops import get
from tinsmith.quant.arithmetic import accumulator_bounds, quantize_multipliers, requantize


def lowered_dense(rng: np.random.Generator, factors: Array, k: int = 24) -> tuple[Node, Graph]:
    """dense over k inputs with random weights, biases and zero points; one channel per factor."""
    out = len(factors)
    x = Value("x", int8((1, k), 1.0, int(rng.integers(-128, 128))))
    y = Value("y", int8((1, out), 1.0, int(rng.integers(-128, 128))))
    multiplier, shift = quantize_multipliers(factors)
    arrays = {
        "w": rng.integers(-127, 128, (out, k)).astype(np.int8),
        "bias": rng.integers(-(2**14), 2**14, out).astype(np.int32),
        "multiplier": multiplier,
        "shift": shift,
    }
    constants = {
        Value(n, TensorType(a.shape, DType(a.dtype.name), Quant.per_tensor(1.0, 0))): a
        for n, a in arrays.items()
    }
    op = get("dense")
    node = Node(op, (x, *constants), (y,), op.attrs())
    return node, Graph("t", (x,), (y,), constants, (node,), Stage.QUANTIZED)


def accumulators(node: Node, graph: Graph, rng: np.random.Generator) -> Array:
    """[samples, O] values inside the proven bounds, the bounds included."""
    w, bias = (graph.constant(v) for v in node.inputs[1:3])
    low, high = accumulator_bounds(w, bias, -128, 127, node.x.zero_point)
    return np.concatenate([[low], [high], rng.integers(low, high + 1, (2000, len(low)))])


def rule(node: Node, graph: Graph, acc: Array) -> Array:
    multiplier, shift = (graph.constant(v) for v in node.inputs[3:5])
    return np.clip(requantize(acc, multiplier, shift) + node.y.zero_point, -128, 127)


FACTORS = st.lists(st.floats(1e-6, 0.9), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(FACTORS, st.integers(0, 2**32 - 1), st.sampled_from([0, 8]))
def test_smmla_form_is_the_rule(factors: list[float], seed: int, extra: int) -> None:
    rng = np.random.default_rng(seed)
    node, graph = lowered_dense(rng, np.array(factors))
    e = epilogue(node, graph, extra)
    if e is None:  # only where the accumulator has no room for the left shifts
        assert extra or max(factors) > 0.2
        return
    acc = accumulators(node, graph, rng)
    raised = acc << (extra + e.scale_up)
    assert np.abs(raised).max() < 2**31
    high = (raised * e.multiplier.astype(np.int64) >> 32) + e.offset
    assert np.abs(high).max() < 2**31
    np.testing.assert_array_equal(np.clip(high >> e.shift, -128, 127), rule(node, graph, acc))


@settings(max_examples=60, deadline=None)
@given(
    st.floats(1e-4, 0.9),
    st.lists(st.sampled_from([1.0, 0.7, 0.1, 0.02, 1e-3, 1e-6]), min_size=1, max_size=6),
    st.integers(0, 2**32 - 1),
)
def test_uniform_form_is_the_rule(factor: float, spread: list[float], seed: int) -> None:
    """One shift for channels whose factors lie apart: raised weights, shorter multipliers, channels
    that take one value."""
    rng = np.random.default_rng(seed)
    node, graph = lowered_dense(rng, factor * np.array(spread))
    form = uniform(node, graph)
    if form is None:  # no common shift: too far apart, or no room for the raised accumulators
        assert len(set(spread)) > 1 or factor > 0.2
        return
    check_uniform(node, graph, form, rng)


def test_a_channel_far_above_the_others_is_moved_to_its_steps() -> None:
    """Its bias makes it take two values, far from 0: no shorter multiplier alone rises there."""
    rng = np.random.default_rng(6)
    factor = 3e-7
    node, graph = lowered_dense(rng, np.array([0.005, factor, 0.004]))
    bias = graph.constant(node.inputs[2]).copy()
    bias[1] = round(-20.5 / factor)
    graph = replace(graph, initializers={**graph.initializers, node.inputs[2]: bias})
    taken = rule(node, graph, accumulators(node, graph, rng))[:, 1]
    assert len(np.unique(taken)) == 2
    form = uniform(node, graph)
    assert form is not None
    check_uniform(node, graph, form, rng)


def check_uniform(node: Node, graph: Graph, form: Uniform, rng: np.random.Generator) -> None:
    w, bias = (graph.constant(v).astype(np.int64) for v in node.inputs[1:3])
    signs = np.where(w > 0, 127, -128)  # the inputs at which a channel's sum is largest
    x = np.concatenate([signs, -1 - signs, rng.integers(-128, 128, (500, w.shape[1]))])
    raised = x @ form.weights.T + form.start
    assert np.abs(form.weights).max() < 2**15
    assert np.abs(raised).max() < 2**31
    high = (raised * form.multiplier.astype(np.int64) >> 32) + form.offset
    assert np.abs(high).max() < 2**31
    want = rule(node, graph, (x - node.x.zero_point) @ w.T + bias)
    np.testing.assert_array_equal(np.clip(high >> form.shift, -128, 127), want)


@settings(max_examples=60, deadline=None)
@given(FACTORS, st.integers(0, 2**32 - 1))
def test_vqdmulh_vrshl_form_is_the_rule(factors: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    node, graph = lowered_dense(rng, np.array(factors))
    c = channels(node, graph)
    assert c is not None
    acc = accumulators(node, graph, rng)
    doubled = (acc << c.scale_up) * c.multiplier.astype(np.int64) >> 31
    right = -c.shift.astype(np.int64)
    assert (right >= 1).all()
    got = (doubled + (np.int64(1) << (right - 1))) >> right
    want = rule(node, graph, acc)
    np.testing.assert_array_equal(np.clip(got + node.y.zero_point, -128, 127), want)


def test_dead_channels_keep_their_constant() -> None:
    node, graph = lowered_dense(np.random.default_rng(3), np.array([1e-12, 1e-17, 0.01]))
    e = epilogue(node, graph)
    assert e is not None
    acc = accumulators(node, graph, np.random.default_rng(4))
    high = (acc * e.multiplier.astype(np.int64) >> 32) + e.offset
    np.testing.assert_array_equal(np.clip(high >> e.shift, -128, 127), rule(node, graph, acc))


@pytest.mark.parametrize("radix", [True, False])
def test_weight_words_hold_both_channels(radix: bool) -> None:
    """The dot products that the block computes from the words are those of the weights."""
    rng = np.random.default_rng(5)
    w = rng.integers(-127, 128, (2, 8)).astype(np.int64)
    x = rng.integers(-128, 128, 8).astype(np.int64)
    words = weight_words(w, radix=radix)[0].view(np.uint32).astype(np.int64)
    pairs = x[[0, 1, 4, 5]], x[[2, 3, 6, 7]]  # SXTB16 of each quad: (k0,k2), (k1,k3)
    halves = [(words & 0xFFFF), (words >> 16)]

    def signed(v: Array, bits: int) -> Array:
        return v - ((v >> (bits - 1)) << bits)

    bytes_low = [signed(h & 0xFF, 8) for h in halves]
    bytes_high = [signed(h >> 8, 8) for h in halves]
    full = [signed(h, 16) for h in halves]
    dot = [
        sum(int((p * h).sum()) for p, h in zip(pairs, part, strict=True))
        for part in (bytes_low, bytes_high, full)
    ]
    want = w @ x
    if radix:
        assert (dot[2] - dot[0], dot[0]) == (256 * want[0], want[1])
    else:
        assert (dot[0], dot[1]) == (want[0], want[1])


@pytest.mark.parametrize("count", [4, 8, 12, 16, 28, 64])
def test_channel_groups_are_a_permutation(count: int) -> None:
    assert sorted(c for g in channel_groups(count) for c in g) == list(range(count))


def test_tap_groups_cannot_overflow_int16() -> None:
    w = np.random.default_rng(6).integers(-127, 128, (25, 16)).astype(np.int8)
    groups = tap_groups(w)
    assert [t for g in groups for t in g] == list(range(25))
    for group in groups:
        assert np.abs(w[group].astype(int)).sum(0).max() * 128 < 2**15

"""lower_requantize: factors that are too large, biases that could overflow."""

from __future__ import annotations

import numpy as np
import pytest

from tinsmith.errors import CompileError
from tinsmith.ir.dtypes import Quant, float32
from tinsmith.ir.graph import Value
from tinsmith.ops import get
from tinsmith.pass_manager import PassContext
from tinsmith.passes.lower_requantize import bias_limits

from .qdq_builder import Qdq, fold


def test_huge_requantisation_factor_names_the_node() -> None:
    b = Qdq()
    x = b.qdq(b.input("x", float32(1, 8)), 1e6, 0)
    w = b.weights("w", (4, 8), low=100.0)
    bias = b.constant("b", np.zeros(4, np.float32))
    graph = b.build([b.q(b.add(get("dense"), [x, w, bias], name="fc"), 1e-6, 0)])
    with pytest.raises(CompileError, match="too large") as caught:
        fold(graph)
    assert caught.value.node == "dense 'fc'"


def test_overflowing_bias_is_clamped_and_said() -> None:
    b = Qdq()
    x = b.qdq(b.input("x", float32(1, 8)), 0.02, -128)
    w = b.weights("w", (4, 8))
    bias = np.array([2**31 - 1, -(2**31), 5, 7], np.int32)
    scale = tuple(s * 0.02 for s in _quant_of(b, w).scale)
    bias = b.dq(b.constant("b", bias, Quant(scale, (0,) * 4, 0)))
    context = PassContext()
    graph = b.build([b.q(b.add(get("dense"), [x, w, bias]), 0.05, 0)])
    folded = fold(graph, context)
    (node,) = folded.nodes
    weights, clamped = (folded.initializers[v].astype(np.int64) for v in node.inputs[1:3])
    assert any("2 channels could overflow" in note for note in context.notes)
    assert clamped[2:].tolist() == [5, 7]
    folded_bias = clamped + 128 * weights.sum(axis=1)
    for start in (clamped, folded_bias):
        assert np.all(np.abs(start) + 128 * np.abs(weights).sum(axis=1) < 2**31)


def test_bias_limits_hold_for_every_partial_sum() -> None:
    random = np.random.default_rng(3)
    weights = random.integers(-127, 128, (5, 40)).astype(np.int8)
    for zero_point in (-128, -5, 0, 127):
        limit = bias_limits(weights, 0, zero_point)
        w = weights.astype(np.int64)
        for bias in (limit, -limit):
            start = bias - zero_point * w.sum(axis=1)
            worst = np.abs(start) + 128 * np.abs(w).sum(axis=1)
            assert np.all(worst <= 2**31 - 1)


def _quant_of(b: Qdq, dequantized: Value) -> Quant:
    node = next(n for n in b._nodes if dequantized in n.outputs)
    quant = node.inputs[0].type.quant
    assert quant is not None
    return quant

"""Rules of the TVM back end for updates and gradients: numpy's bits, state in place."""

from __future__ import annotations

import numpy as np
import pytest

from tinsmith.ir.dtypes import Array, DType
from tinsmith.ir.graph import Value
from tinsmith.ir.interpret import evaluate

pytest.importorskip("tvm", reason="the rules need TVM: pip install 'tinsmith[tvm]'")

from tinsmith.tvm_backend.registry import registry, rule_for

from .training_case import TrainingCase
from .training_cases import training_cases
from .tvm_rules import compiled, native_isas, uses

SEEDS = (0, 1, 2, 3)
ISAS = native_isas()
OPERATORS = (
    "weight_update",
    "bias_update",
    "quantize_gradient",
    "clip_mask",
    "clamp_mask",
    "mask_gradient",
    "sum_gradients",
)

pytestmark = pytest.mark.skipif(not ISAS, reason="no instruction set of TVM's runs here")


def _cases(op: str) -> list[TrainingCase]:
    cases = [c for c in training_cases() if c.graph.nodes[0].op.name == op]
    return [c for c in cases if rule_for(c.graph.nodes[0], c.graph) is not None]


def _known(case: TrainingCase, seed: int, odd: float | None = None) -> dict[Value, Array]:
    """odd: the first of all float32 inputs."""
    graph = case.graph
    known = dict(graph.initializers) | case.state(seed)
    known |= dict(zip(graph.inputs, case.inputs(seed), strict=True))
    for value in graph.inputs:
        if odd is not None and value.type.dtype is DType.FLOAT32:
            known[value].reshape(-1)[0] = odd
    (node,) = graph.nodes
    results = evaluate(node, [known[v] for v in node.inputs])
    return known | dict(zip(node.outputs, results, strict=True))


@pytest.mark.parametrize("op", OPERATORS)
@pytest.mark.parametrize("target", ISAS)
def test_a_step_has_the_bits_of_numpy(op: str, target: str) -> None:
    """All cases on the best target, some on the others; int8 stored in every way in the first."""
    cases = _cases(op)[:: 1 if target == next(iter(ISAS)) else 4]
    found = [
        (case, use)
        for case in cases
        for use in uses(case.graph, ISAS[target], every=case is cases[0])
    ]
    functions = compiled([use for _, use in found])
    for index, (case, use) in enumerate(found):
        for seed in SEEDS:
            label = f"{case.name} seed {seed} stored {sorted(v.name for v in use.site.stored)}"
            for _, got, want in functions.call(index, _known(case, seed)):
                assert got.tobytes() == want.tobytes(), label


@pytest.mark.parametrize("op", ["weight_update", "bias_update", "quantize_gradient"])
def test_what_is_not_finite_or_tiny_does_what_it_does_in_numpy(op: str) -> None:
    cases = _cases(op)[::3]
    isa = next(iter(ISAS.values()))
    functions = compiled([uses(case.graph, isa, every=False)[0] for case in cases])
    for index, case in enumerate(cases):
        for odd in (np.nan, np.inf, -np.inf, 3e38, 1e-42):
            with np.errstate(all="ignore"):
                known = _known(case, 0, odd)
            for _, got, want in functions.call(index, known):
                assert got.tobytes() == want.tobytes(), f"{case.name} with {odd}"


def test_the_cases_reach_every_rule() -> None:
    assert {rule.op for rule in registry()} >= set(OPERATORS)
    for op in OPERATORS:
        assert len(_cases(op)) >= 2, op

"""Rules of the TVM back end for updates and gradients: numpy's bits, state in place."""

from __future__ import annotations

import pytest

from tinsmith.ir.dtypes import Array
from tinsmith.ir.graph import Value
from tinsmith.ir.interpret import evaluate

pytest.importorskip("tvm", reason="the rules need TVM: pip install 'tinsmith[tvm]'")

from tinsmith.tvm_backend.registry import registry, rule_for

from .training_case import TrainingCase
from .training_cases import training_cases
from .tvm_rules import compiled, native_isas, uses

SEEDS = (0, 1, 2, 3)
ISAS = native_isas()
OPERATORS = ("weight_update",)

pytestmark = pytest.mark.skipif(not ISAS, reason="no instruction set of TVM's runs here")


def _cases(op: str) -> list[TrainingCase]:
    cases = [c for c in training_cases() if c.graph.nodes[0].op.name == op]
    return [c for c in cases if rule_for(c.graph.nodes[0], c.graph) is not None]


def _known(case: TrainingCase, seed: int) -> dict[Value, Array]:
    graph = case.graph
    known = dict(graph.initializers) | case.state(seed)
    known |= dict(zip(graph.inputs, case.inputs(seed), strict=True))
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


def test_the_cases_reach_every_rule() -> None:
    assert {rule.op for rule in registry()} >= set(OPERATORS)
    for op in OPERATORS:
        assert len(_cases(op)) >= 2, op

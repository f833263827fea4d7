"""Every rule of the TVM back end against the numpy references: bit-exact in int8.

All cases of all operators, each activation stored as it is and with an offset, for every
instruction set of TVM's that this machine has.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import Phase, given, settings

from tinsmith.ir.dtypes import DType
from tinsmith.ir.graph import Graph
from tinsmith.ir.opdef import OpDef
from tinsmith.ops import registry

pytest.importorskip("tvm", reason="the rules need TVM: pip install 'tinsmith[tvm]'")

from tinsmith.tvm_backend.registry import registry as rules
from tinsmith.tvm_backend.registry import rule_for
from tinsmith.tvm_backend.rule import Site
from tinsmith.tvm_backend.without_rule import WITHOUT_RULE

from .cases import case_graph, case_inputs, cases_of
from .host_c import FLOAT_TOLERANCE
from .test_random_graphs import networks
from .test_trust_kernels import LAYERS, Layer, blinded, samples_of
from .training_case import TrainingCase
from .training_cases import training_cases
from .tvm_rules import Use, compiled, evaluated, native_isas, uses

SEEDS = (0, 1, 2)
ISAS = native_isas()
FOLDED = ("quantize", "dequantize")  # no kernel sees them

pytestmark = pytest.mark.skipif(not ISAS, reason="no instruction set of TVM's runs here")


def _check(found: Sequence[Use], graphs: dict[Graph, list[dict[object, np.ndarray]]]) -> None:
    functions = compiled(found)
    for index, use in enumerate(found):
        site = use.site
        for known in graphs[site.graph]:
            for value, got, want in functions.call(index, known):
                label = f"{value.name} stored {sorted(v.name for v in site.stored)}"
                if want.dtype == np.float32:
                    np.testing.assert_allclose(got, want, **FLOAT_TOLERANCE, err_msg=label)
                else:
                    np.testing.assert_array_equal(got, want, err_msg=label)


def _operators(dtype: DType) -> list[object]:
    every = [op for op in registry().values() if op.name not in FOLDED and cases_of(op, dtype)]
    return [
        pytest.param(op, name, id=f"{op.name}-{name}")
        for op in every
        if not op.is_view
        for name in ISAS
    ]


@pytest.mark.parametrize(("op", "target"), _operators(DType.INT8))
def test_int8_is_bit_exact(op: OpDef, target: str) -> None:
    graphs = [case_graph(op, case) for case in cases_of(op, DType.INT8)]
    best = target == next(iter(ISAS))
    found = [use for graph in graphs for use in uses(graph, ISAS[target], every=best)]
    _check(found, {g: [evaluated(g, case_inputs(g, seed)) for seed in SEEDS] for g in graphs})


@pytest.mark.parametrize(("op", "target"), _operators(DType.FLOAT32))
def test_float32_is_close(op: OpDef, target: str) -> None:
    graphs = [case_graph(op, case, DType.FLOAT32) for case in cases_of(op, DType.FLOAT32)]
    found = [use for graph in graphs for use in uses(graph, ISAS[target])]
    _check(found, {g: [evaluated(g, case_inputs(g, seed)) for seed in SEEDS[:2]] for g in graphs})


@settings(max_examples=6, deadline=None, derandomize=True, phases=(Phase.generate,))
@given(networks("net"))
def test_random_networks_are_bit_exact(graph: Graph) -> None:
    """Each node of networks of up to six steps, some in batches of two."""
    isa = next(iter(ISAS.values()))
    _check(uses(graph, isa, every=False), {graph: [evaluated(graph, case_inputs(graph, 1))]})


@pytest.mark.parametrize("op", [pytest.param(op, id=op.name) for op in registry().values()])
def test_every_operator_has_a_rule_or_a_reason(op: OpDef) -> None:
    has_rule = any(rule.op == op.name for rule in rules())
    assert has_rule != (op.name in WITHOUT_RULE)
    assert has_rule or len(WITHOUT_RULE[op.name].split()) >= 3


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_sums_in_the_ring_are_bit_exact(layer: Layer) -> None:
    graph = blinded(layer)
    (node,) = (n for n in graph.nodes if n.op.name == "ring_conv2d")
    rule = rule_for(node, graph)
    assert rule is not None
    for isa in ISAS.values():
        functions = compiled([Use(rule, Site(node, graph, isa))])
        for sample in samples_of(graph):
            ((_, got, want),) = functions.call(0, evaluated(graph, sample))
            np.testing.assert_array_equal(got, want)


def _backward(op: str, *layers: str) -> list[TrainingCase]:
    names = {f"{op}.{layer}" for layer in layers}
    found = [case for case in training_cases() if case.name in names]
    assert len(found) == len(names)
    return found


_LEARNING = [
    *_backward(
        "conv2d_trainable",
        "pointwise_part",
        "pointwise_wide",
        "same_3x3_part",
        "dilated",
        "depthwise_stride2",
    ),
    *_backward(
        "conv2d_input_gradient",
        "pointwise_part",
        "pointwise_wide",
        "pointwise_stride2",
        "one_pixel",
        "same_3x3_part",
        "dilated",
        "uneven",
        "depthwise_stride2",
        "depthwise_dilated",
    ),
]


def test_layers_that_learn_are_bit_exact() -> None:
    """Also the gradients, float32 with exact sums behind them."""
    isa = next(iter(ISAS.values()))
    found = [uses(case.graph, isa)[0] for case in _LEARNING]
    functions = compiled(found)
    for index, case in enumerate(_LEARNING):
        for seed in SEEDS:
            known = evaluated(case.graph, case.inputs(seed))
            for _, got, want in functions.call(index, known):
                assert got.tobytes() == want.tobytes(), case.name

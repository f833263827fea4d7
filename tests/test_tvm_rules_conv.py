"""The TVM rules of int8 conv2d and dense: every case, on every instruction set this machine has."""

from __future__ import annotations

import numpy as np
import pytest

from tests.cases import case_graph, cases_of
from tinsmith.ir.dtypes import Array
from tinsmith.ir.graph import Graph
from tinsmith.ir.interpret import run
from tinsmith.ir.opdef import Case, OpDef
from tinsmith.machine.cpu import missing_flags
from tinsmith.machine.target import Isa, load_target, target_names
from tinsmith.ops import registry

pytest.importorskip("tvm", reason="needs the extra `tvm`")

from tinsmith.tvm_backend.registry import rule_for
from tinsmith.tvm_backend.rule import Site
from tinsmith.tvm_backend.run_prim_func import run_prim_func

OPERATORS = [registry()["conv2d"], registry()["dense"]]
CASES = [(op, case) for op in OPERATORS for case in cases_of(op)]
IDS = [f"{op.name}-{case.name}" for op, case in CASES]
ISAS = {n: t.tvm for n in target_names() if (t := load_target(n)).tvm is not None}


def isa_here(name: str) -> Isa:
    if missing := missing_flags(load_target(name)):
        pytest.skip(f"this machine lacks {', '.join(missing)}")
    return ISAS[name]


def run_rule(graph: Graph, isa: Isa, x: Array, *, stored: bool) -> Array:
    """The int8 output of a graph of one node. stored: activations with the offset of the set."""
    (node,) = graph.nodes
    moved = frozenset((node.inputs[0], node.outputs[0])) if stored else frozenset()
    site = Site(node, graph, isa, moved)
    rule = rule_for(node, graph)
    assert rule is not None
    offset = site.offset(node.inputs[0])
    arrays = [(x.astype(np.int16) + offset).astype(site.dtype(node.inputs[0]))]
    arrays += [np.zeros(node.y.elements, site.dtype(node.outputs[0]))]
    arrays += [c.array for c in rule.constants(site).values()]
    if scratch := rule.scratch_bytes(site):
        arrays += [np.random.default_rng(3).integers(0, 256, scratch).astype(np.uint8)]
    y = run_prim_func(rule.build(site), arrays, isa)[1]
    return (y.astype(np.int16) - site.offset(node.outputs[0])).astype(np.int8).reshape(node.y.shape)


def samples(graph: Graph) -> list[Array]:
    (x,) = graph.inputs
    shape, rng = x.type.shape, np.random.default_rng(7)
    extremes = [np.full(shape, v, np.int8) for v in (-128, 127)]
    return [*extremes, rng.integers(-128, 128, shape).astype(np.int8)]


def check(graph: Graph, isa: Isa, *, stored: bool) -> None:
    for x in samples(graph):
        want = run(graph, [x])[0]
        np.testing.assert_array_equal(run_rule(graph, isa, x, stored=stored), want)


@pytest.mark.parametrize("isa", [n for n in ISAS if n.startswith("x86")])
@pytest.mark.parametrize(("op", "case"), CASES, ids=IDS)
def test_equals_the_reference(op: OpDef, case: Case, isa: str) -> None:
    check(case_graph(op, case), isa_here(isa), stored=True)

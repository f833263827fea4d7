"""Operators as compiled projects of TVM's boards, emulated: the oracle's bits.

`test_tvm_rules` calls every rule for this machine's own instruction sets; here is what it cannot
run. TINSMITH_ALL_TARGETS=1 takes every target and every case, in some minutes.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tinsmith import paths
from tinsmith.codegen.emit import emit
from tinsmith.codegen.program import Program
from tinsmith.codegen.project import kernels_object
from tinsmith.codegen.schedule import schedule
from tinsmith.ir.dtypes import Array, DType
from tinsmith.ir.graph import Graph, Value
from tinsmith.ir.interpret import run
from tinsmith.machine.board import Board
from tinsmith.ops import registry
from tinsmith.pass_manager import PassContext
from tinsmith.runner.execute import run_samples
from tinsmith.runner.protocol import Sample
from tinsmith.toolchain.compile_c import build, firmware
from tinsmith.toolchain.harness import ModelBinding, write_harness

from .cases import cases_of, op_graph
from .host_c import FLOAT_TOLERANCE, write
from .test_c_operators import NOT_IN_C
from .tvm_projects import require

pytest.importorskip("tvm", reason="needs the tvm extra")

EVERYTHING = os.environ.get("TINSMITH_ALL_TARGETS") == "1"
TARGETS = ("x86_64-avx512-vnni", "x86_64-avx2", "aarch64-dotprod", "aarch64")
CASES = 100 if EVERYTHING else 2  # of each operator


def _everything(dtype: DType) -> Graph:
    """The first cases of all operators side by side in one graph."""
    operators = [o for o in registry().values() if o.name not in NOT_IN_C and cases_of(o, dtype)]
    parts = [_part(op_graph(op, dtype)) for op in operators]
    initializers = {v: a for g in parts for v, a in g.initializers.items()}
    return Graph(
        "operators",
        tuple(v for g in parts for v in g.inputs),
        tuple(v for g in parts for v in g.outputs),
        initializers,
        tuple(n for g in parts for n in g.nodes),
        parts[0].stage,
    )


def _part(graph: Graph) -> Graph:
    """The nodes of the first cases; every value has the graph's name in front of its own."""
    order = dict.fromkeys(v.name.split(".")[0] for v in graph.outputs)
    chosen = set(list(order)[:CASES])

    def named(values: Iterable[Value]) -> tuple[Value, ...]:
        return tuple(replace(v, name=f"{graph.name}.{v.name}") for v in values)

    def kept(values: Iterable[Value]) -> tuple[Value, ...]:
        return named(v for v in values if v.name.split(".")[0] in chosen)

    nodes = [
        replace(n, inputs=named(n.inputs), outputs=named(n.outputs))
        for n in graph.nodes
        if n.name.split(".")[0] in chosen
    ]
    constants = {named([v])[0]: a for v, a in graph.initializers.items()}
    used = {v for n in nodes for v in n.inputs}
    return replace(
        graph,
        inputs=kept(graph.inputs),
        outputs=kept(graph.outputs),
        nodes=tuple(nodes),
        initializers={v: a for v, a in constants.items() if v in used},
    )


def _build(folder: Path, board: Board, graph: Graph) -> Program:
    program = schedule(graph, board, None, False, PassContext(), enough=2**30)
    assert {c.kernel.name[:4] for c in program.calls} == {"tvm_"}
    assert program.library is not None
    write(folder, emit(program))
    (folder / kernels_object(program.c_name)).write_bytes(program.library.code())
    for part in ("include", "src", "tvm"):
        shutil.copytree(paths.RUNTIME_C / part, folder / "runtime" / part)
    write_harness(folder, board, [ModelBinding.of(program.graph)])
    build(folder, board)
    return program


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "dtype"),
    [(t, d) for t in TARGETS for d in (DType.INT8, DType.FLOAT32)]
    if EVERYTHING
    else [("aarch64-dotprod", DType.FLOAT32), ("aarch64", DType.INT8)],
)
def test_operators_have_the_values_of_the_oracle(target: str, dtype: DType, tmp_path: Path) -> None:
    board = require(target)
    graph = _build(tmp_path, board, _everything(dtype)).graph
    rng = np.random.default_rng(5)
    samples = [Sample(tuple(_random(v, rng) for v in graph.inputs)) for _ in range(2)]
    types = [v.type for v in graph.outputs]
    results = run_samples(firmware(tmp_path), board, [types], samples)
    for sample, result in zip(samples, results, strict=True):
        assert result.status == 0
        want = run(graph, list(sample.inputs))
        for value, expected, got in zip(graph.outputs, want, result.outputs, strict=True):
            if dtype is DType.INT8:
                np.testing.assert_array_equal(got, expected, err_msg=value.name)
            else:
                np.testing.assert_allclose(got, expected, **FLOAT_TOLERANCE, err_msg=value.name)


def _random(value: Value, rng: np.random.Generator) -> Array:
    """int8 over the whole range; float32 where every function is defined."""
    shape = value.type.shape
    if value.type.dtype is DType.INT8:
        return rng.integers(-128, 128, shape, np.int8)
    return rng.uniform(0.0, 2.0, shape).astype(np.float32)

"""Portable kernels of every operator on this machine, sanitized: bit-exact in int8, close in float.

All cases of an operator run in one program; every further kernel runs those it applies to.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tinsmith.ir.dtypes import DType
from tinsmith.ir.interpret import run
from tinsmith.ir.opdef import OpDef
from tinsmith.kernels import registry as kernels
from tinsmith.kernels.kernel import Kernel
from tinsmith.ops import registry

from .cases import case_graph, case_inputs, cases_of, op_graph
from .host_c import Job, program, run_jobs

FLOAT_TOLERANCE = {"rtol": 2e-5, "atol": 4e-6}
SEEDS = (0, 1, 2)


def _runnable(dtype: DType) -> list[OpDef]:
    never_in_a_program = ("quantize", "dequantize")
    return [
        op
        for op in registry().values()
        if cases_of(op, dtype) and op.name not in never_in_a_program
    ]


def _run_host(folder: Path, op: OpDef, dtype: DType) -> None:
    graph = replace(op_graph(op, dtype), name=f"{op.name}_cases")
    samples = [case_inputs(op_graph(op, dtype), seed) for seed in SEEDS]
    (rows,) = run_jobs(folder, [Job(replace(program(graph), sample=samples[0]), samples)])
    for sample, row in zip(samples, rows, strict=True):
        for got, want, value in zip(row, run(graph, sample), graph.outputs, strict=True):
            if dtype is DType.INT8:
                np.testing.assert_array_equal(got, want, err_msg=value.name)
            else:
                np.testing.assert_allclose(got, want, err_msg=value.name, **FLOAT_TOLERANCE)


@pytest.mark.parametrize("op", _runnable(DType.INT8), ids=lambda op: op.name)
def test_int8_c_is_bit_exact(op: OpDef, tmp_path: Path) -> None:
    _run_host(tmp_path, op, DType.INT8)


@pytest.mark.parametrize("op", _runnable(DType.FLOAT32), ids=lambda op: op.name)
def test_float_c_is_close(op: OpDef, tmp_path: Path) -> None:
    _run_host(tmp_path, op, DType.FLOAT32)


def _fallbacks() -> list[Kernel]:
    """Portable int8 kernels that are not the cheapest for some case."""
    return [k for k in kernels() if not k.features and k.op in ("conv2d", "dense")]


@pytest.mark.parametrize(
    "kernel", [k for k in _fallbacks() if k.dtype is DType.INT8], ids=lambda k: k.name
)
def test_each_int8_kernel_is_bit_exact_where_it_applies(kernel: Kernel, tmp_path: Path) -> None:
    op = registry()[kernel.op]
    graphs = [case_graph(op, case) for case in cases_of(op, DType.INT8)]
    jobs: list[Job] = []
    for i, graph in enumerate(graphs):
        (node,) = graph.nodes
        if kernel.applies(node, graph):
            renamed = replace(graph, name=f"{kernel.name}_{i}")
            samples = [case_inputs(graph, seed) for seed in SEEDS]
            jobs.append(Job(program(renamed, kernels=[kernel]), samples))
    assert jobs
    for job, rows in zip(jobs, run_jobs(tmp_path, jobs), strict=True):
        for sample, row in zip(job.samples, rows, strict=True):
            np.testing.assert_array_equal(row[0], run(job.program.graph, sample)[0])

"""Every portable int8 kernel of convolution and dense, on this machine, sanitized: bit-exact.

`test_c_operators` runs the cheapest kernel of each case; here the others run too.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tinsmith.ir.dtypes import DType
from tinsmith.ir.interpret import run
from tinsmith.kernels import registry as kernels
from tinsmith.kernels.kernel import Kernel
from tinsmith.ops import registry

from .cases import case_graph, case_inputs, cases_of, with_one_scale
from .host_c import Job, program, run_jobs

SEEDS = (0, 1, 2)


def _portable() -> list[Kernel]:
    return [
        k
        for k in kernels()
        if not k.features and k.op in ("conv2d", "dense") and k.dtype is DType.INT8
    ]


@pytest.mark.parametrize("kernel", _portable(), ids=lambda k: k.name)
def test_each_int8_kernel_is_bit_exact_where_it_applies(kernel: Kernel, tmp_path: Path) -> None:
    op = registry()[kernel.op]
    graphs = [case_graph(op, case) for case in cases_of(op, DType.INT8)]
    if op.name == "dense":
        graphs += [with_one_scale(graph) for graph in graphs]
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

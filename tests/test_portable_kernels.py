"""Portable kernels of every operator on this machine, sanitized: bit-exact in int8, close in float.

All cases of an operator run in one program.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tinsmith.ir.dtypes import DType
from tinsmith.ir.interpret import run
from tinsmith.ir.opdef import OpDef
from tinsmith.ops import registry

from .cases import case_inputs, cases_of, op_graph
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

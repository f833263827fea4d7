"""Every operator in C against the oracle: bit-exact in int8, within a tolerance in float32."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from tinsmith import paths
from tinsmith.ir.dtypes import DType
from tinsmith.ir.interpret import run
from tinsmith.ir.opdef import OpDef
from tinsmith.ops import registry

from .cases import case_inputs, cases_of, op_graph
from .host_c import FLOAT_TOLERANCE, WARNINGS, Job, program, run_jobs

SEEDS = (0, 1, 2, 3)
OTHER_COMPILERS = {
    "clang": (),
    "arm-none-eabi-gcc": ("-mcpu=cortex-m4", "-mfloat-abi=hard"),
    "riscv64-unknown-elf-gcc": ("-march=rv32imac", "-mabi=ilp32", "--specs=picolibc.specs"),
}


# Folded away or refused before kernels are selected: a target runs either int8 or float32.
NOT_IN_C = ("quantize", "dequantize")


def _operators(dtype: DType) -> list[object]:
    every = [op for op in registry().values() if op.name not in NOT_IN_C]
    return [pytest.param(op, id=op.name) for op in every if cases_of(op, dtype)]


def _clean_elsewhere(folder: Path, name: str) -> None:
    """No warning from the other compilers either."""
    for compiler, flags in OTHER_COMPILERS.items():
        command = [compiler, "-std=c11", "-fsyntax-only", *WARNINGS, *flags]
        command += ["-I", str(paths.RUNTIME_C / "include"), f"{name}.c", f"{name}_weights.c"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{compiler}: {done.stderr[-3000:]}"


@pytest.mark.parametrize("op", _operators(DType.INT8))
def test_int8_is_bit_exact(op: OpDef, tmp_path: Path) -> None:
    graph = op_graph(op, DType.INT8)
    samples = [case_inputs(graph, seed) for seed in SEEDS]
    (rows,) = run_jobs(tmp_path, [Job(program(graph), samples)])
    for sample, outputs in zip(samples, rows, strict=True):
        for value, want, got in zip(graph.outputs, run(graph, sample), outputs, strict=True):
            np.testing.assert_array_equal(got, want, err_msg=value.name)
    _clean_elsewhere(tmp_path, program(graph).c_name)


@pytest.mark.parametrize("op", _operators(DType.FLOAT32))
def test_float32_is_close(op: OpDef, tmp_path: Path) -> None:
    graph = op_graph(op, DType.FLOAT32)
    samples = [case_inputs(graph, seed) for seed in SEEDS[:2]]
    (rows,) = run_jobs(tmp_path, [Job(program(graph), samples)])
    for sample, outputs in zip(samples, rows, strict=True):
        for value, want, got in zip(graph.outputs, run(graph, sample), outputs, strict=True):
            np.testing.assert_allclose(got, want, **FLOAT_TOLERANCE, err_msg=value.name)
    _clean_elsewhere(tmp_path, program(graph).c_name)

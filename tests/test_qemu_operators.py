"""Every operator's cases under QEMU, bit-exact against the oracle: one firmware per target."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tinsmith.ir.dtypes import DType
from tinsmith.ir.graph import Graph
from tinsmith.ir.interpret import run
from tinsmith.machine.board import load_board
from tinsmith.ops import registry

from .cases import case_inputs, cases_of, op_graph
from .firmware import run_jobs
from .host_c import FLOAT_TOLERANCE, Job, program
from .test_c_operators import NOT_IN_C

INT8_BOARDS = (
    "microbit",
    "mps2-an385",
    "mps2-an386",
    "mps2-an500",
    "mps2-an505",
    "mps3-an547",
    "qemu-riscv32",
)
FLOAT_BOARDS = ("mps2-an386", "mps3-an547")
SEEDS = (0, 1)


def _graphs(dtype: DType) -> list[Graph]:
    operators = [op for op in registry().values() if op.name not in NOT_IN_C]
    return [op_graph(op, dtype) for op in operators if cases_of(op, dtype)]


def _run(folder: Path, board_name: str, dtype: DType):
    """Yields (value, oracle's array, device's array) of every case and seed."""
    board = load_board(board_name)
    jobs = [
        Job(program(graph, board.target), [case_inputs(graph, seed) for seed in SEEDS])
        for graph in _graphs(dtype)
    ]
    for job, rows in zip(jobs, run_jobs(folder, board, jobs), strict=True):
        graph = job.program.graph
        for sample, outputs in zip(job.samples, rows, strict=True):
            for value, want, got in zip(graph.outputs, run(graph, sample), outputs, strict=True):
                yield f"{graph.name}: {value.name}", want, got


@pytest.mark.slow
@pytest.mark.parametrize("board", INT8_BOARDS)
def test_int8_is_bit_exact(board: str, tmp_path: Path) -> None:
    wrong = [
        f"{name}: {np.count_nonzero(got != want)} of {want.size} differ"
        for name, want, got in _run(tmp_path, board, DType.INT8)
        if not np.array_equal(got, want)
    ]
    assert not wrong


@pytest.mark.slow
@pytest.mark.parametrize("board", FLOAT_BOARDS)
def test_float32_is_close(board: str, tmp_path: Path) -> None:
    for name, want, got in _run(tmp_path, board, DType.FLOAT32):
        np.testing.assert_allclose(got, want, **FLOAT_TOLERANCE, err_msg=name)

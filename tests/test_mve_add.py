"""add and sub for Helium: every pair of inputs, tails, clamps, in the emulator, bit-exact."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tinsmith.ir.dtypes import int8
from tinsmith.ir.graph import Graph, Node, Origin, Stage, Value
from tinsmith.ir.interpret import run
from tinsmith.kernels import registry as kernels
from tinsmith.machine.board import load_board
from tinsmith.ops import get

from .cases import lowered
from .firmware import run_jobs
from .host_c import Job, program

EVERY = np.arange(-128, 128, dtype=np.int8)
# scale of x, of x1, of y; zero points; clamp
FORMS = (
    ((0.05, 0.05, 0.1), (0, 0, 0), (-np.inf, np.inf)),
    ((0.031, 0.0077, 0.029), (-128, 5, -128), (0.0, np.inf)),
    ((0.9, 0.11, 0.05), (17, -3, 40), (0.0, 6.0)),
    ((0.002, 0.003, 0.4), (1, -1, 0), (-np.inf, 0.4)),
)


def graph(op: str, form: int, count: int) -> Graph:
    (s1, s2, sy), (z1, z2, zy), clamp = FORMS[form]
    shape = (1, count)
    x, x1 = Value("x", int8(shape, s1, z1)), Value("x1", int8(shape, s2, z2))
    y = Value("y", int8(shape, sy, zy))
    node = Node(get(op), (x, x1), (y,), replace(get(op).attrs(), clamp=clamp), Origin("y", op))
    made = Graph(f"{op}_{form}_{count}", (x, x1), (y,), {}, (node,), Stage.QUANTIZED)
    return lowered(made)


@pytest.mark.parametrize("op", ["add", "sub"])
def test_bit_exact_for_every_pair(op: str, tmp_path: Path) -> None:
    board = load_board("mps3-an547")
    tuned = [k for k in kernels() if k.name == f"{op}_mve"]
    rng = np.random.default_rng(3)
    jobs: list[Job] = []
    for form in range(len(FORMS)):
        left, right = (a.reshape(1, -1) for a in np.meshgrid(EVERY[::3], EVERY))
        whole = graph(op, form, left.size)
        jobs.append(Job(program(whole, board.target, tuned), [[left.copy(), right.copy()]]))
        for count in (1, 3, 5):
            sample = [rng.integers(-128, 128, (1, count), np.int8) for _ in range(2)]
            jobs.append(Job(program(graph(op, form, count), board.target, tuned), [sample]))
    for job, rows in zip(jobs, run_jobs(tmp_path, board, jobs), strict=True):
        for sample, (got,) in zip(job.samples, rows, strict=True):
            np.testing.assert_array_equal(got, run(job.program.graph, sample)[0])

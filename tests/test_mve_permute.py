"""permute_channels for Helium: whole and cut gathers, in the emulator, against the oracle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from tinsmith.ir.dtypes import DType, TensorType, int8
from tinsmith.ir.graph import Graph, Node, Origin, Stage, Value
from tinsmith.ir.interpret import run
from tinsmith.kernels import registry as kernels
from tinsmith.machine.board import load_board
from tinsmith.ops import get

from .firmware import run_jobs
from .host_c import Job, program

CHANNELS = (1, 15, 16, 17, 33, 64, 255, 256)


def graph(channels: int) -> Graph:
    x = Value("x", int8((1, 3, 2, channels), 0.1, 3))
    order = Value("order", TensorType((channels,), DType.INT32))
    y = Value("y", x.type)
    drawn = np.random.default_rng(channels).permutation(channels).astype(np.int32)
    op = get("permute_channels")
    node = Node(op, (x, order), (y,), op.attrs(), Origin("y", op.name))
    return Graph(f"permute_{channels}", (x,), (y,), {order: drawn}, (node,), Stage.QUANTIZED)


def test_bit_exact(tmp_path: Path) -> None:
    board = load_board("mps3-an547")
    rng = np.random.default_rng(1)
    tuned = [k for k in kernels() if k.name == "permute_channels_mve"]
    jobs: list[Job] = []
    for channels in CHANNELS:
        made = graph(channels)
        data = rng.integers(-128, 128, made.inputs[0].type.shape).astype(np.int8)
        planned = program(made, board.target, tuned)
        assert [c.kernel.name for c in planned.calls] == ["permute_channels_mve"]
        jobs.append(Job(replace(planned, sample=[data]), [[data]]))
    for job, rows in zip(jobs, run_jobs(tmp_path, board, jobs), strict=True):
        want = run(job.program.graph, job.samples[0])
        assert np.array_equal(rows[0][0], want[0]), job.program.graph.name


def test_more_channels_than_a_byte_counts_have_the_portable_kernel() -> None:
    planned = program(graph(257), load_board("mps3-an547").target)
    assert [c.kernel.name for c in planned.calls] == ["permute_channels_s8"]

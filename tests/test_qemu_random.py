"""Random int8 networks under QEMU give what the oracle gives: small odd ones and wide ones."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tinsmith.ir.graph import Graph, Value
from tinsmith.ir.interpret import run
from tinsmith.machine.board import load_board

from .firmware import run_jobs
from .host_c import Job, program
from .int8_nets import Int8Net
from .test_random_graphs import networks

Draw = Callable[[st.SearchStrategy[int]], int]

BOARDS = ("mps2-an386", "mps2-an500", "mps3-an547", "qemu-riscv32")
WIDTHS = (3, 4, 8, 12, 16, 17, 24, 31, 32, 40)


@st.composite
def wide_networks(draw: Draw, name: str) -> Graph:
    """Convolutions, depthwise layers and sums on as many channels as tuned kernels are made for."""
    net = Int8Net(name, draw(st.integers(0, 2**16)))
    widths = st.sampled_from(WIDTHS)
    x = net.input(1, draw(st.integers(1, 12)), draw(st.integers(1, 12)), draw(widths))
    for kind in draw(st.lists(st.integers(0, 4), min_size=2, max_size=5)):
        x = _wide_step(net, kind, x, draw)
    if draw(st.booleans()):
        x = net.dense(x, draw(widths))
    return net.build(x)


def _wide_step(net: Int8Net, kind: int, x: Value, draw: Draw) -> Value:
    width = draw(st.sampled_from(WIDTHS))
    match kind:
        case 0:
            return net.conv(x, width, 1)
        case 1:
            return net.conv(x, width, draw(st.sampled_from([2, 3])), draw(st.integers(1, 2)))
        case 2:
            return net.depthwise(x, draw(st.sampled_from([3, 5, 7])), draw(st.integers(1, 2)))
        case 3:
            return net.add("add", [x, net.conv(x, x.type.shape[3], 1)])
        case _:
            return net.pool("average_pool", x, 2, 2)


@pytest.mark.slow
@pytest.mark.parametrize("board_name", BOARDS)
# Without shrinking: every example builds a firmware.
@settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    st.tuples(
        *(networks(f"odd{i}") for i in range(3)), *(wide_networks(f"wide{i}") for i in range(5))
    ),
    st.integers(0, 2**16),
)
def test_device_equals_the_oracle(board_name: str, graphs: tuple[Graph, ...], seed: int) -> None:
    rng, board = np.random.default_rng(seed), load_board(board_name)
    jobs: list[Job] = []
    for graph in graphs:
        samples = [
            [rng.integers(-128, 128, v.type.shape).astype(np.int8) for v in graph.inputs],
            [rng.choice(np.array([-128, 127], np.int8), v.type.shape) for v in graph.inputs],
        ]
        jobs.append(Job(program(graph, board.target), samples))
    with tempfile.TemporaryDirectory() as folder:
        results = run_jobs(Path(folder), board, jobs)
    for job, rows in zip(jobs, results, strict=True):
        for sample, outputs in zip(job.samples, rows, strict=True):
            wanted = run(job.program.graph, sample)
            for value, got, want in zip(job.program.graph.outputs, outputs, wanted, strict=True):
                np.testing.assert_array_equal(got, want, err_msg=value.name)

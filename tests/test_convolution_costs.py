"""The formulas of the DSP extension's convolutions, against layers that they were not fitted to."""

from __future__ import annotations

import numpy as np
import pytest

from tinsmith.ir.graph import Graph
from tinsmith.kernels import registry
from tinsmith.kernels.costs import cost
from tinsmith.kernels.counts import counts
from tinsmith.kernels.select import candidates
from tinsmith.machine.board import load_board
from tinsmith.machine.costs import PART
from tinsmith.runner.measure_kernels import Job, execute_kernels, measure_kernels

from .int8_nets import Int8Net

KERNELS = [k for k in registry() if k.op == "conv2d" and "dsp" in k.features]


def _layers() -> Graph:
    """Every feed, border and tail once: odd sizes, strides, windows that are not square."""
    net = Int8Net("convolutions", 23)
    made = [
        net.conv(net.input(1, 25, 5, 64), 64, 1),
        net.conv(net.input(1, 9, 7, 8), 24, 1),
        net.conv(net.input(1, 33, 31, 3), 8, 3, 2),
        net.conv(net.input(1, 21, 17, 1), 16, 5),
        net.conv(net.input(1, 15, 13, 16), 32, 3),
        net.conv(net.input(1, 14, 16, 24), 20, 3, 2),
        net.depthwise(net.input(1, 25, 5, 64)),
        net.depthwise(net.input(1, 23, 24, 12), 3, 2),
        net.depthwise(net.input(1, 11, 13, 40), 5),
        net.depthwise(net.input(1, 14, 15, 8), 7, 2),
    ]
    return net.build(*made)


def _jobs(board: str) -> list[Job]:
    graph, features = _layers(), load_board(board).target.features
    return [
        Job(node, graph, kernel)
        for node in graph.nodes
        for kernel in candidates(node, graph, features, KERNELS)
    ]


@pytest.mark.parametrize("board", ["mps2-an386", "mps2-an500"])
def test_layers_cost_what_is_said(board: str) -> None:
    """Every kernel that applies. What is chosen of a network's layers is off by less."""
    machine, jobs = load_board(board), _jobs(board)
    assert len({job.kernel.name for job in jobs}) >= 15
    errors: list[float] = []
    for job, truth in zip(jobs, measure_kernels(jobs, machine), strict=True):
        said = cost(job.kernel, job.node, job.graph, machine.target)
        pairs = [(said.instructions, truth.instructions), (said.cycles, truth.cycles)]
        error = max(abs(a / b - 1) for a, b in pairs if a is not None and b is not None)
        assert error < 0.05, f"{job.kernel.name} {job.node.x.shape} {said} {truth}"
        errors.append(error)
    assert np.quantile(errors, 0.9) < 0.03


def test_blocks_are_counted_exactly() -> None:
    """A function of a block executes whole numbers of instructions for each of its counts."""
    net = Int8Net("block", 3)
    graph = net.build(net.conv(net.input(1, 12, 10, 20), 14, 1))
    (kernel,) = (k for k in KERNELS if k.name == "conv2d_pairs_dsp")
    job = Job(graph.nodes[0], graph, kernel)
    (found,) = execute_kernels([job], load_board("mps2-an386"))
    known = {n: c for n, c in counts(kernel, job.node, graph).items() if n.startswith("block.")}
    # 60 pairs of pixels × 7 of channels, 5 quads of inputs, which are one round.
    assert known["block.calls"] == 60
    assert known["block.pairs"] == 420
    assert known["block.quads"] == 2100
    assert known["block.turns"] == 0
    (block,) = (n for name, (n, _) in found.functions.items() if name.endswith("_block"))
    expected = 7 * 60 + 20 * 420 + 10 * 2100 + 3 * known["block.compared"]
    assert block == expected
    assert all(PART in name for name in known)

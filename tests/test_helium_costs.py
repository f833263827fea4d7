"""The formulas of the kernels for Helium, against layers that they were not fitted to."""

from __future__ import annotations

import numpy as np
import pytest

from tinsmith.ir.graph import Graph
from tinsmith.kernels import registry
from tinsmith.kernels.costs import cost
from tinsmith.kernels.counts import counts
from tinsmith.kernels.select import candidates
from tinsmith.machine.board import load_board
from tinsmith.machine.costs import load_costs
from tinsmith.ops.reduce_mean import ReduceMeanAttrs
from tinsmith.runner.measure_kernels import Job, execute_kernels, measure_kernels

from .int8_nets import Int8Net

BOARD = load_board("mps3-an547")
KERNELS = [k for k in registry() if "mve" in k.features]


def _layers() -> Graph:
    """Of the sizes that networks have, and odd ones: every tail, border and band once."""
    net = Int8Net("helium", 31)
    made = [
        net.conv(net.input(1, 25, 5, 64), 64, 1),
        net.conv(net.input(1, 13, 11, 20), 28, 1),
        net.conv(net.input(1, 33, 31, 3), 8, 3, 2),
        net.conv(net.input(1, 15, 13, 16), 32, 3),
        net.conv(net.input(1, 14, 16, 24), 20, 3, 2),
        net.depthwise(net.input(1, 48, 48, 8)),
        net.depthwise(net.input(1, 23, 24, 12), 3, 2),
        net.depthwise(net.input(1, 25, 5, 64)),
        net.depthwise(net.input(1, 13, 11, 40), 5),
        net.dense(net.input(1, 1, 1, 640), 128),
        net.add("add", [net.input(1, 9, 9, 32), net.input(1, 9, 9, 32)]),
        net.add("reduce_mean", [net.input(1, 11, 12, 72)], ReduceMeanAttrs((1, 2))),
    ]
    return net.build(*made)


def _jobs() -> list[Job]:
    """Every kernel with a formula, on every layer that it applies to."""
    graph, table = _layers(), load_costs("cortex-m55")
    assert table is not None
    return [
        Job(node, graph, kernel)
        for node in graph.nodes
        if not node.op.is_view
        for kernel in candidates(node, graph, BOARD.target.features, KERNELS)
        if kernel.name in table.kernels
    ]


def test_layers_cost_what_is_said() -> None:
    jobs = _jobs()
    assert len({job.kernel.name for job in jobs}) >= 10
    errors: list[float] = []
    for job, truth in zip(jobs, measure_kernels(jobs, BOARD), strict=True):
        said = cost(job.kernel, job.node, job.graph, BOARD.target)
        assert said.cycles is not None
        assert truth.cycles is not None
        off = (said.instructions / truth.instructions, said.cycles / truth.cycles)
        error = max(abs(ratio - 1) for ratio in off)
        assert error < 0.05, f"{job.kernel.name} {job.node.x.shape} {said} {truth}"
        errors.append(error)
    assert np.quantile(errors, 0.9) < 0.03


COPIES = ("copy_", "fill_", "plain_lines")


@pytest.mark.parametrize("kernel", ["conv2d_gemm_mve", "depthwise_windows_mve", "dense_row_mve"])
def test_formulas_name_counts_that_exist(kernel: str) -> None:
    """A count that is renamed would be left out of a sum. Which copies are made depends on the
    layer; these few do not make all of them."""
    table = load_costs("cortex-m55")
    assert table is not None
    known = {n for j in _jobs() if j.kernel.name == kernel for n in _names(j)}
    formula = table.kernels[kernel]
    unknown = {*formula.instructions, *formula.cycles} - known
    assert {n for n in unknown if not n.partition(".")[2].startswith(COPIES)} == set()


def _names(job: Job) -> set[str]:
    return set(counts(job.kernel, job.node, job.graph))


def test_blocks_are_counted_exactly() -> None:
    """A function of a block executes whole numbers of instructions for each of its counts."""
    net = Int8Net("block", 3)
    graph = net.build(net.conv(net.input(1, 8, 8, 64), 48, 1))
    (kernel,) = (k for k in KERNELS if k.name == "conv2d_gemm_mve")
    job = Job(graph.nodes[0], graph, kernel)
    (found,) = execute_kernels([job], BOARD)
    known = counts(kernel, job.node, graph)
    # 32 pairs of pixels × 12 groups of four channels, 64 inputs in four vectors.
    assert known["block.calls"] == 1
    assert known["block.groups"] == 384
    assert known["block.chunks"] == 1536
    assert known["block.sixteens"] == known["block.looped_sixteens"] == 96
    (block,) = (n for name, (n, _) in found.functions.items() if name.endswith("_block"))
    pixels = 10 * 384 + 14 * 1536 + (4 + 6) * 96 + 6 * 32
    assert block == pixels + known["block.moves"] + known["block.vectors"] + 14

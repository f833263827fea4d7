"""The formulas of kernels that are no convolutions, against layers that they were not fitted to."""

from __future__ import annotations

import numpy as np
import pytest

from tinsmith.ir.graph import Graph
from tinsmith.kernels import registry
from tinsmith.kernels.costs import cost
from tinsmith.kernels.counts import counts
from tinsmith.kernels.select import candidates
from tinsmith.machine.board import load_board
from tinsmith.machine.costs import FORM, load_costs
from tinsmith.ops.average_pool import AveragePoolAttrs
from tinsmith.ops.max_pool import MaxPoolAttrs
from tinsmith.ops.mul import MulAttrs
from tinsmith.ops.reduce_mean import ReduceMeanAttrs
from tinsmith.runner.measure_kernels import Job, measure_kernels

from .int8_nets import Int8Net

CORES = {"cortex-m4": "mps2-an386", "cortex-m7": "mps2-an500", "cortex-m33": "mps2-an505"}
SMALL = 400  # instructions: fewer weigh nothing, and the call is a part of them


def _layers() -> Graph:
    """What follows or joins convolutions, of sizes that leave tails and clip windows."""
    net = Int8Net("others", 33)
    padded = MaxPoolAttrs((3, 3), (2, 2), (0, 0, 1, 1), layout="NHWC")
    counted = AveragePoolAttrs((3, 3), (1, 1), (1, 1, 1, 1), layout="NHWC", count_include_pad=True)
    x = net.input(1, 7, 6, 40)
    made = [
        net.dense(net.input(1, 1, 1, 100), 30),
        net.dense(net.input(1, 1, 1, 72), 12),
        net.conv(net.input(1, 1, 1, 96), 20, 1),
        net.add("add", [net.input(1, 9, 9, 21), net.input(1, 9, 9, 21)]),
        net.add("max_pool", [net.input(1, 18, 17, 24)], padded),
        net.pool("max_pool", net.input(1, 9, 11, 32), 5, 2),
        net.add("average_pool", [net.input(1, 9, 8, 16)], counted),
        net.pool("average_pool", net.input(1, 12, 12, 20), 2, 2),
        net.add("reduce_mean", [net.input(1, 9, 5, 56)], ReduceMeanAttrs((1, 2))),
        net.add("softmax", [net.input(1, 21)]),
        net.add("mul", [x, net.input(1, 7, 6, 40)], MulAttrs()),
        net.concat([x, net.input(1, 7, 6, 57)]),
        net.add("sigmoid", [net.input(1, 5, 7, 19)]),
    ]
    return net.build(*made)


def _jobs(board: str) -> list[Job]:
    """Of the tuned kernels, and of the portable ones where there is none."""
    graph, features = _layers(), load_board(board).target.features
    found: list[Job] = []
    for node in (n for n in graph.nodes if not n.op.is_view):
        fitting = [k for k in candidates(node, graph, features, registry()) if "conv" not in k.name]
        tuned = [k for k in fitting if k.features] or fitting
        found += [Job(node, graph, kernel) for kernel in tuned]
    return found


@pytest.mark.parametrize("target", CORES)
def test_layers_cost_what_is_said(target: str) -> None:
    machine = load_board(CORES[target])
    jobs = _jobs(CORES[target])
    errors: list[float] = []
    for job, truth in zip(jobs, measure_kernels(jobs, machine), strict=True):
        said = cost(job.kernel, job.node, job.graph, machine.target)
        pairs = [(said.instructions, truth.instructions), (said.cycles, truth.cycles)]
        error = max(abs(a / b - 1) for a, b in pairs if a is not None and b is not None)
        if truth.instructions >= SMALL:
            assert error < 0.05, f"{job.kernel.name} {job.node.x.shape} {said} {truth}"
            errors.append(error)
    assert len(errors) >= 15
    assert np.quantile(errors, 0.9) < 0.03


@pytest.mark.parametrize("target", CORES)
def test_every_kernel_of_these_layers_has_a_formula(target: str) -> None:
    table = load_costs(target)
    assert table is not None
    for job in _jobs(CORES[target]):
        formula = table.kernels[job.kernel.name]
        known = counts(job.kernel, job.node, job.graph)
        forms = {name for name, count in known.items() if FORM in name and count}
        assert forms <= set(formula.forms), job.kernel.name
        assert set(formula.instructions) & set(known) - {"call"}, job.kernel.name
        assert formula.layers >= 10, job.kernel.name


def test_where_a_function_lies_changes_nothing() -> None:
    """Rounds of a loop are counted alike on both sides of a page, which QEMU's blocks end at."""
    net = Int8Net("places", 5)
    graph = net.build(*(net.dense(net.input(1, 1, 1, 480), 4 * n) for n in range(3, 15)))
    (kernel,) = (k for k in registry() if k.name == "dense_pairs_row_dsp")
    jobs = [Job(n, graph, kernel) for n in graph.nodes if not n.op.is_view]
    found = measure_kernels(jobs, load_board("mps2-an386"))
    steps = np.diff([c.instructions for c in found[1:]])  # before the first one the run begins
    assert steps.max() - steps.min() <= 3  # of a constant that takes another instruction

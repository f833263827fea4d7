"""Plans hold on a hostile arena: every byte that a plan calls dead is spoilt after every node.

The checker of plans and the planner could share a mistake about what a kernel reads; the C cannot.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.cases import case_inputs
from tests.firmware import run_jobs as run_on_board
from tests.host_c import Job, program, run_files, run_jobs
from tests.int8_nets import Int8Net, bottleneck_net, residual_net
from tests.poison import poisoned
from tests.shared import shared_models
from tinsmith import pipeline
from tinsmith.codegen.program import Program
from tinsmith.ir.dtypes import Array
from tinsmith.ir.graph import Graph
from tinsmith.ir.interpret import run
from tinsmith.machine.board import load_board
from tinsmith.pass_manager import PassContext
from tinsmith.plan.model import MemoryPlan
from tinsmith.plan.stripes import stripe_rows

SEEDS = (0, 1)


def widening_net() -> Graph:
    """Outputs larger than the inputs they grow over, and one that is smaller."""
    net = Int8Net("widening", 8)
    x = net.input(1, 12, 12, 4)
    y = net.conv(net.conv(net.depthwise(net.conv(x, 12, 1)), 20, 3), 6, 1)
    return net.build(net.conv(y, 16, 3, 2))


def striped_net() -> Graph:
    return replace(stripe_rows(bottleneck_net(3)), name="striped")


def striped_block() -> Graph:
    """A residual block in stripes, each sum over the rows of its shortcut."""
    net = Int8Net("block", 7)
    x = net.conv(net.input(1, 33, 8, 3), 16, 3)
    y = net.add("add", [net.conv(net.conv(x, 16, 3), 16, 3), x])
    graph = stripe_rows(net.build(net.conv(y, 16, 3, 4)))
    assert sum(n.op.name == "add" for n in graph.nodes) > 2
    return graph


NETS: tuple[Callable[[], Graph], ...] = (residual_net, widening_net, striped_net, striped_block)


def features(plan: MemoryPlan) -> set[str]:
    """What the plan makes use of."""
    found = {"scratch"} if plan.scratch else set[str]()
    found |= {"stripes"} if any(p.buffer.host for p in plan.placed) else set()
    for a in plan.placed:
        for b in plan.placed:
            into = a.buffer.first == b.buffer.last and not a.buffer.is_scratch
            if into and a.offset < b.end and b.offset < a.end:
                found.add("in place" if a.offset == b.offset else "offset overlap")
    return found


def job(planned: Program) -> Job:
    return Job(planned, [case_inputs(planned.graph, seed) for seed in SEEDS])


def oracle(jobs: list[Job]) -> list[list[tuple[Array, ...]]]:
    return [[run(j.program.graph, sample) for sample in j.samples] for j in jobs]


def same(got: list[list[tuple[Array, ...]]], want: list[list[tuple[Array, ...]]]) -> bool:
    pairs = zip(
        (a for rows in got for row in rows for a in row),
        (a for rows in want for row in rows for a in row),
        strict=True,
    )
    return all(np.array_equal(a, b) for a, b in pairs)


def spoilt_files(jobs: list[Job]) -> dict[str, str]:
    return {name: text for j in jobs for name, text in poisoned(j.program).items()}


def test_portable_kernels_read_nothing_dead(tmp_path: Path) -> None:
    jobs = [job(program(net())) for net in NETS]
    used = set[str]().union(*(features(j.program.plan) for j in jobs))
    assert used >= {"in place", "offset overlap", "stripes", "scratch"}
    assert same(run_files(tmp_path, spoilt_files(jobs), jobs), oracle(jobs))


@pytest.mark.parametrize("name", ["mps2-an500", "mps3-an547"])
def test_tuned_kernels_read_nothing_dead(name: str, tmp_path: Path) -> None:
    board = load_board(name)
    jobs = [job(program(net(), board.target)) for net in NETS]
    used = set[str]().union(*(features(j.program.plan) for j in jobs))
    assert used >= {"in place", "offset overlap", "stripes", "scratch"}
    assert same(run_on_board(tmp_path, board, jobs, spoilt_files(jobs)), oracle(jobs))


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "name"), [("mlperf_tiny", "kws"), ("mcu_nets", "mcunet-5fps")])
def test_networks_read_nothing_dead(folder: str, name: str, tmp_path: Path) -> None:
    context, board = PassContext(), load_board("mps2-an500")
    network = pipeline.canonical(shared_models() / folder / f"{name}_int8.onnx", context)
    graph = pipeline.lower(network, "int8", None, "auto", context)
    striped = program(stripe_rows(graph), board.target)
    rng = np.random.default_rng(0)
    samples = [[rng.integers(-128, 128, v.type.shape, np.int8) for v in graph.inputs]]
    jobs = [Job(striped, samples)]
    assert same(run_on_board(tmp_path, board, jobs, spoilt_files(jobs)), oracle(jobs))


def test_a_buffer_that_a_plan_lets_die_too_soon_is_missed(tmp_path: Path) -> None:
    """The control: the offsets are right, but the poison holds the skip for dead at its first use.

    Nobody else would notice: the bytes happen to stay as they were.
    """
    good = program(residual_net())
    skip = good.graph.nodes[0].outputs[0]
    placed = tuple(
        replace(p, buffer=replace(p.buffer, last=1)) if skip in p.buffer.values else p
        for p in good.plan.placed
    )
    jobs = [job(replace(good, plan=replace(good.plan, placed=placed)))]
    assert same(run_jobs(tmp_path / "plain", jobs), oracle(jobs))
    with pytest.raises(AssertionError, match="the self-test failed"):
        run_files(tmp_path / "spoilt", spoilt_files(jobs), jobs)


def test_a_buffer_that_a_plan_lays_over_another_is_missed(tmp_path: Path) -> None:
    good = program(residual_net())
    head, deep = (good.graph.nodes[k].outputs[0] for k in (0, 1))  # both live until the sum
    offsets = {**good.plan.offsets, deep: good.plan.offsets[head]}
    jobs = [job(replace(good, plan=replace(good.plan, offsets=offsets)))]
    with pytest.raises(AssertionError, match="the self-test failed"):
        run_files(tmp_path, spoilt_files(jobs), jobs)

"""What kernels are said to cost: formulas as data, and a few layers measured against them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tinsmith import paths
from tinsmith.errors import CompileError
from tinsmith.ir.graph import Graph
from tinsmith.kernels import registry
from tinsmith.kernels.costs import cost, layer_key
from tinsmith.kernels.counts import counts
from tinsmith.kernels.select import candidates
from tinsmith.machine import costs
from tinsmith.machine.board import load_board
from tinsmith.machine.costs import Cost, Formula, evaluate, load_costs
from tinsmith.machine.target import load_target, target_names
from tinsmith.runner.measure_kernels import Job, can_measure, measure_kernels

from .int8_nets import Int8Net

CALIBRATED = [name for name in target_names() if load_costs(name) is not None]


def _layers() -> Graph:
    """Of sizes that the networks of MLPerf Tiny have; none of them was fitted to."""
    net = Int8Net("layers", 11)
    made = [
        net.conv(net.input(1, 25, 5, 64), 64, 1),
        net.depthwise(net.input(1, 25, 5, 64)),
        net.depthwise(net.input(1, 24, 24, 16), 3, 2),
        net.conv(net.input(1, 12, 12, 32), 64, 1),
        net.conv(net.input(1, 16, 16, 32), 32, 3),
        net.dense(net.input(1, 1, 1, 128), 128),
    ]
    return net.build(*made)


def test_a_formula_is_linear_in_its_counts() -> None:
    formula = Formula(
        {"call": 3.0, "blocks fast": 2.0}, 100, 5, 0.01, 0.02, 0.5, {"call": 4.0}, 0.75,
        forms=("blocks fast",),
    )  # fmt: skip
    assert evaluate({"a": 2.0, "b": 5.0}, {"a": 3.0}) == 6.0
    assert formula.cost({"call": 1.0, "blocks fast": 10.0}) == Cost(23.0, 4.0, 100)
    # Nothing was measured of this form: the kernel's own estimate, in proportion.
    other = {"call": 1.0, "blocks slow": 10.0, "estimate": 60.0}
    assert formula.cost(other) == Cost(30.0, 45.0, 100)
    assert formula.cost(other | {"blocks slow": 0.0}) == Cost(3.0, 4.0, 100)


def test_without_a_formula_the_own_estimate_counts() -> None:
    graph = _layers()
    node = next(n for n in graph.nodes if n.op.name == "conv2d")
    (kernel,) = (k for k in registry() if k.name == "conv2d_s8")
    assert load_costs("host") is None
    found = cost(kernel, node, graph, load_target("host"))
    assert found == Cost(kernel.instructions(node, graph))


def test_a_bad_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "costs.toml").write_text("compiler = 3\n")
    monkeypatch.setattr(costs.paths, "TARGETS", tmp_path)
    with pytest.raises(CompileError, match=r"odd/costs\.toml"):
        load_costs("odd")


def test_layers_of_the_same_code_have_the_same_key() -> None:
    net = Int8Net("twins", 2)
    x = net.input(1, 6, 6, 8)
    graph = net.build(net.conv(x, 8), net.conv(x, 8), net.conv(x, 12))
    (kernel,) = (k for k in registry() if k.name == "conv2d_gemm_dsp")
    keys = [layer_key(kernel, n, graph) for n in graph.nodes]
    views = [repr(dict(kernel.view(n, graph))) for n in graph.nodes]
    assert (keys[0] == keys[1]) == (views[0] == views[1])
    assert keys[2] not in keys[:2]


@pytest.mark.parametrize("target", CALIBRATED)
def test_formulas_are_of_kernels_and_counts_that_exist(target: str) -> None:
    table = load_costs(target)
    assert table is not None
    assert set(table.kernels) <= {k.name for k in registry()}
    graph, features = _layers(), load_target(target).features
    for node in (n for n in graph.nodes if not n.op.is_view):
        for kernel in candidates(node, graph, features, registry()):
            known = counts(kernel, node, graph)
            assert all(np.isfinite(c) and c >= 0 for c in known.values()), kernel.name
            found = cost(kernel, node, graph, load_target(target))
            assert found.instructions > 0
    has_cycles = load_target(target).cycles is not None
    assert all(bool(f.cycles) == has_cycles for f in table.kernels.values())


@pytest.mark.parametrize(
    ("board", "within"),
    [
        ("mps2-an386", 0.05),
        ("mps2-an385-armv6m", 0.05),
        ("mps2-an385", 0.05),
        ("qemu-riscv32", 0.05),
    ],
)
def test_measured_layers_cost_what_is_said(board: str, within: float) -> None:
    """The kernels that are chosen, on layers that the formulas were not fitted to."""
    machine, graph = load_board(board), _layers()
    assert can_measure(machine)
    jobs: list[Job] = []
    said: list[Cost] = []
    for node in (n for n in graph.nodes if not n.op.is_view):
        fitting = candidates(node, graph, machine.target.features, registry())
        priced = [(cost(k, node, graph, machine.target), k) for k in fitting]
        best, kernel = min(priced, key=lambda p: p[0].instructions)
        jobs.append(Job(node, graph, kernel))
        said.append(best)
    for job, estimate, truth in zip(jobs, said, measure_kernels(jobs, machine), strict=True):
        name = f"{job.kernel.name} {job.node.x.shape}"
        assert estimate.instructions == pytest.approx(truth.instructions, rel=within), name
        priced = machine.target.cycles is not None
        assert not priced or estimate.cycles == pytest.approx(truth.cycles, rel=within), name


def test_paths_of_the_data() -> None:
    assert all((paths.TARGETS / name / "costs.toml").is_file() for name in CALIBRATED)
    assert {"cortex-m0", "cortex-m3", "cortex-m4", "cortex-m7", "rv32imac"} <= set(CALIBRATED)

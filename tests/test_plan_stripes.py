"""Stripes of rows: the same results from fewer bytes, and only where they help."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tinsmith import paths, pipeline
from tinsmith.codegen.project import write_project
from tinsmith.codegen.schedule import schedule
from tinsmith.codegen.training import inference_graph
from tinsmith.ir.graph import Graph, Value
from tinsmith.ir.interpret import run
from tinsmith.ir.verify import verify
from tinsmith.machine.board import load_board
from tinsmith.pass_manager import PassContext
from tinsmith.plan.stripes import least_bytes, stripe_rows
from tinsmith.train.scheme import read_scheme

from .int8_nets import Int8Net, bottleneck_net
from .shared import shared_models

BOARD = load_board("mps2-an500")
SCHEMES = sorted((paths.GRAPHS / "schemes").glob("*.toml"))
LIMITS = {"mcunet-5fps-49kb": 83_000, "mbv2-w0.35-49kb": 74_000, "proxyless-w0.3-49kb": 67_000}


def macs(graph: Graph) -> int:
    return sum(n.op.macs(n) for n in graph.nodes)


@pytest.mark.parametrize(
    ("rows", "kernel", "stride", "dilation"),
    [(36, 3, 2, 1), (35, 3, 1, 1), (64, 5, 2, 1), (33, 5, 1, 1), (41, 7, 2, 1), (40, 3, 1, 3)],
)
def test_stripes_compute_the_same_from_fewer_bytes(
    rows: int, kernel: int, stride: int, dilation: int
) -> None:
    graph = bottleneck_net(rows, rows, kernel, stride, dilation=dilation)
    striped = stripe_rows(graph)
    verify(striped)
    assert max(len(n.inputs) for n in striped.nodes if n.op.name == "concat") > 2
    assert least_bytes(striped) < 0.8 * least_bytes(graph)
    assert macs(striped) <= macs(graph)  # no row is computed twice, some are never read
    rng = np.random.default_rng(rows)
    for _ in range(3):
        x = rng.integers(-128, 128, graph.inputs[0].type.shape, np.int8)
        for want, got in zip(run(graph, [x]), run(striped, [x]), strict=True):
            np.testing.assert_array_equal(got, want)


def residual_net(rows: int, *, read_by_another: bool = False) -> Graph:
    """A block of two convolutions with a shortcut at the highest resolution."""
    net = Int8Net("residual", rows)
    x = net.conv(net.input(1, rows, 16, 3), 16, 3)
    y = net.add("add", [net.conv(net.conv(x, 16, 3), 16, 3), x])
    z = net.conv(y, 16, 3, 4)
    rest = [net.pool("average_pool", x, 4, 4)] if read_by_another else []
    return net.build(z, *rest)


@pytest.mark.parametrize("rows", [32, 33, 48])
def test_a_residual_block_overwrites_the_rows_of_its_shortcut(rows: int) -> None:
    graph = residual_net(rows)
    striped = stripe_rows(graph)
    verify(striped)
    added = [n for n in striped.nodes if n.op.name == "add"]
    assert len(added) > 2
    x = graph.nodes[0].y
    assert least_bytes(striped) < 1.7 * x.bytes < 2 * x.bytes <= least_bytes(graph)
    assert macs(striped) == macs(graph)
    image = np.random.default_rng(rows).integers(-128, 128, (1, rows, 16, 3), np.int8)
    np.testing.assert_array_equal(run(striped, [image])[0], run(graph, [image])[0])
    made = schedule(striped, BOARD, None, False, PassContext())
    assert made.plan.arena_bytes < 2 * x.bytes
    assert made.plan.proved_optimal
    at = made.plan.offsets
    sums = [n for n in made.graph.nodes if n.op.name == "add"]
    assert all(any(at[v] == at[n.outputs[0]] for v in n.inputs) for n in sums)


def test_a_shortcut_that_others_read_too_stays_whole() -> None:
    striped = stripe_rows(residual_net(32, read_by_another=True))
    assert sum(n.op.name == "add" for n in striped.nodes) == 1


def test_the_same_graph_is_striped_the_same_twice() -> None:
    assert stripe_rows(bottleneck_net(1)) == stripe_rows(bottleneck_net(1))


def reading_the_wide_layer(net: Int8Net, wide: Value) -> list[Value]:
    deep = net.conv(net.depthwise(wide, 3, 2), 8, 1)
    return [net.conv(deep, 8, 3, 4), net.pool("max_pool", wide, 36, 36)]


def giving_out_the_wide_layer(net: Int8Net, wide: Value) -> list[Value]:
    return [net.conv(net.depthwise(wide, 3, 2), 8, 1), wide]


@pytest.mark.parametrize("rest", [reading_the_wide_layer, giving_out_the_wide_layer])
def test_what_others_read_stays_whole(rest) -> None:
    net = Int8Net("whole", 5)
    wide = net.conv(net.conv(net.input(1, 36, 20, 4), 4, 1), 48, 1)
    graph = net.build(*rest(net, wide))
    assert wide in stripe_rows(graph).producer


def test_a_network_without_a_wide_layer_is_left_alone() -> None:
    net = Int8Net("even", 2)
    x = net.input(1, 16, 16, 8)
    graph = net.build(net.conv(net.conv(net.conv(x, 8, 3), 8, 1), 8, 3))
    assert stripe_rows(graph) is graph


@functools.cache
def network(name: str) -> Graph:
    return pipeline.canonical(shared_models() / "mcu_nets" / f"{name}_int8.onnx", PassContext())


@pytest.mark.parametrize("path", SCHEMES, ids=lambda p: p.stem)
def test_published_schemes_need_the_bytes_of_learning_only(path: Path) -> None:
    """High-resolution layers, which do not learn, set the peak of none but the smallest."""
    name = path.stem.rpartition("-")[0]
    graph = pipeline.lower(
        network(name), "int8", None, "auto", PassContext(), read_scheme(path)
    )  # fmt: skip
    striped = stripe_rows(graph)
    verify(striped)
    assert striped.updates == graph.updates
    assert macs(striped) == macs(graph)
    assert least_bytes(striped) <= LIMITS.get(path.stem, 131_000)
    image = np.random.default_rng(0).integers(-128, 128, graph.inputs[0].type.shape, np.int8)
    (want,), (got,) = (run(inference_graph(g), [image]) for g in (graph, striped))
    np.testing.assert_array_equal(got, want)


@pytest.mark.slow
@pytest.mark.parametrize("path", SCHEMES, ids=lambda p: p.stem)
def test_published_schemes_compile(path: Path, tmp_path: Path) -> None:
    """Scheduled, planned, checked and written for a board; linked in the benchmark."""
    context = PassContext()
    name = path.stem.rpartition("-")[0]
    graph = stripe_rows(
        pipeline.lower(network(name), "int8", None, "auto", context, read_scheme(path))
    )
    program = schedule(inference_graph(graph), BOARD, None, False, context)
    train = schedule(graph, BOARD, None, False, context)
    # Tuned kernels have scratch, which the bound of the graph, of portable ones, does not count.
    assert train.plan.arena_bytes <= 1.02 * train.plan.lower_bound_bytes
    assert train.plan.arena_bytes <= 1.05 * least_bytes(graph)
    assert write_project(tmp_path, replace(program, train=train)) > 300_000
    assert (tmp_path / "train.tin").exists()

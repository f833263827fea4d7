"""Every portable int8 kernel of convolution and dense, on this machine, sanitized: bit-exact.

`test_c_operators` runs the cheapest kernel of each case; here the others run too.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tinsmith.ir.dtypes import DType, Quant
from tinsmith.ir.interpret import run
from tinsmith.kernels import registry as kernels
from tinsmith.kernels.kernel import Kernel
from tinsmith.ops import registry

from .cases import case_graph, case_inputs, cases_of, with_one_scale
from .host_c import Job, program, run_jobs
from .int8_nets import Int8Net

SEEDS = (0, 1, 2)


def _portable() -> list[Kernel]:
    return [
        k
        for k in kernels()
        if not k.features and k.op in ("conv2d", "dense") and k.dtype is DType.INT8
    ]


@pytest.mark.parametrize("kernel", _portable(), ids=lambda k: k.name)
def test_each_int8_kernel_is_bit_exact_where_it_applies(kernel: Kernel, tmp_path: Path) -> None:
    op = registry()[kernel.op]
    graphs = [case_graph(op, case) for case in cases_of(op, DType.INT8)]
    if op.name == "dense":
        graphs += [with_one_scale(graph) for graph in graphs]
    jobs: list[Job] = []
    for i, graph in enumerate(graphs):
        (node,) = graph.nodes
        if kernel.applies(node, graph):
            renamed = replace(graph, name=f"{kernel.name}_{i}")
            samples = [case_inputs(graph, seed) for seed in SEEDS]
            jobs.append(Job(program(renamed, kernels=[kernel]), samples))
    assert jobs
    for job, rows in zip(jobs, run_jobs(tmp_path, jobs), strict=True):
        for sample, row in zip(job.samples, rows, strict=True):
            np.testing.assert_array_equal(row[0], run(job.program.graph, sample)[0])


@pytest.mark.parametrize("name", ["dense_halves_s8", "dense_halves_few_s8"])
def test_weights_too_large_for_half_a_register_come_afterwards(name: str, tmp_path: Path) -> None:
    """Runs of inputs of which no sum fits, some, and all: with the largest values there are."""
    (kernel,) = (k for k in _portable() if k.name == name)
    jobs: list[Job] = []
    for i, (depth, out, share) in enumerate([(37, 6, 1.0), (64, 8, 0.1), (640, 4, 0.01)]):
        net, rng = Int8Net(f"halves{i}", i), np.random.default_rng(i)
        x = net.input(1, depth)
        small = rng.integers(-6, 7, (out, depth))
        large = rng.choice([-128, 127], (out, depth))
        filters = np.where(rng.random((out, depth)) < share, large, small).astype(np.int8)
        scale = Quant((0.0005,) * out, (0,) * out, 0)
        sums = Quant(tuple(s * x.type.scale for s in scale.scale), (0,) * out, 0)
        bias = rng.integers(-2000, 2000, out).astype(np.int32)
        y = net.add("dense", [x, net.constant("w", filters, scale), net.constant("b", bias, sums)])
        graph = net.build(y)
        (node,) = graph.nodes
        assert kernel.view(node, graph)["excess"]
        extremes = [np.full((1, depth), v, np.int8) for v in (-128, 127)]
        noise = rng.choice([-128, 127], (8, 1, depth)).astype(np.int8)
        samples = [[v] for v in (*extremes, *noise)]
        jobs.append(Job(program(graph, kernels=[kernel]), samples))
    for job, rows in zip(jobs, run_jobs(tmp_path, jobs), strict=True):
        for sample, row in zip(job.samples, rows, strict=True):
            np.testing.assert_array_equal(row[0], run(job.program.graph, sample)[0])


@pytest.mark.parametrize("name", ["conv2d_halves_3_s8", "conv2d_halves_8_s8"])
def test_two_pixels_in_a_register_at_the_largest_values_there_are(
    name: str, tmp_path: Path
) -> None:
    """Filters and inputs of -127 and 127 alone, over odd numbers of pixels, channels and inputs."""
    (kernel,) = (k for k in _portable() if k.name == name)
    rng = np.random.default_rng(5)
    jobs: list[Job] = []
    for i, (shape, out, window) in enumerate([((1, 3, 5, 7), 10, 3), ((1, 4, 4, 5), 17, 1)]):
        net = Int8Net(f"{name}_{i}", i)
        y = net.conv(net.input(*shape), out, window)
        for value, array in net.constants.items():
            if array.dtype == np.int8:
                net.constants[value] = rng.choice([-127, 127], array.shape).astype(np.int8)
        graph = net.build(y)
        assert kernel.applies(graph.nodes[0], graph)
        filled = [np.full(shape, v, np.int8) for v in (-128, 127)]
        samples = [[v] for v in (*filled, *rng.choice([-128, 127], (6, *shape)).astype(np.int8))]
        jobs.append(Job(program(graph, kernels=[kernel]), samples))
    for job, rows in zip(jobs, run_jobs(tmp_path, jobs), strict=True):
        for sample, row in zip(job.samples, rows, strict=True):
            np.testing.assert_array_equal(row[0], run(job.program.graph, sample)[0])


def test_two_pixels_in_a_register_need_sums_of_two_products_in_int16() -> None:
    """-128 times -128, twice, is one too large."""
    (kernel,) = (k for k in _portable() if k.name == "conv2d_halves_8_s8")
    net = Int8Net("least")
    y = net.conv(net.input(1, 2, 2, 4), 2, 1)
    (w,) = (v for v, array in net.constants.items() if array.dtype == np.int8)
    for array, applies in (([-128, -127], True), ([-128, -128], False)):
        net.constants[w] = np.tile(np.array(array, np.int8), 4).reshape(2, 1, 1, 4)
        graph = net.build(y)
        assert kernel.applies(graph.nodes[0], graph) is applies

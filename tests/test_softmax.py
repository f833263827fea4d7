"""The integer softmax: at most 1 LSB from the correctly rounded one, for any scale and length."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tinsmith.errors import CompileError
from tinsmith.ir.dtypes import Array, int8
from tinsmith.ir.graph import Graph, Node, Origin, Stage, Value
from tinsmith.ir.interpret import run
from tinsmith.ops.softmax import OP, SoftmaxAttrs

from .cases import lowered
from .host_c import Job, program, run_jobs

LENGTHS = (2, 3, 10, 101, 1000, 4096)
INPUT_SCALES = (0.001, 0.03, 0.11, 0.5)
OUTPUTS = ((1 / 256, -128), (1 / 255, -128), (0.0078125, 0), (0.003, -100), (0.02, -128))


def softmax_graph(length: int, x_scale: float, output: tuple[float, int]) -> Graph:
    shape = (1, length)
    x = Value("x", int8(shape, x_scale, -4))
    y = Value("y", int8(shape, float(np.float32(output[0])), output[1]))
    node = Node(OP, (x,), (y,), SoftmaxAttrs(1), Origin("y", "Softmax"))
    return lowered(Graph(f"softmax_{length}", (x,), (y,), {}, (node,), Stage.QUANTIZED))


def rows(length: int) -> list[Array]:
    """Random, one winner, all equal, a ramp."""
    rng = np.random.default_rng(length)
    winner = np.full(length, -128)
    winner[length // 2] = 127
    equal, ramp = np.full(length, 5), np.arange(length) % 256 - 128
    random = [rng.integers(-128, 128, length), rng.integers(100, 128, length)]
    return [r.astype(np.int8).reshape(1, length) for r in (*random, winner, equal, ramp)]


def exact(graph: Graph, x: Array) -> Array:
    y = graph.outputs[0].type
    real = (x.astype(np.float64) - x.max()) * graph.inputs[0].type.scale
    p = np.exp(real) / np.exp(real).sum()
    return np.clip(np.floor(p / y.scale + 0.5) + y.zero_point, -128, 127)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("x_scale", INPUT_SCALES)
def test_error_is_at_most_one_lsb(length: int, x_scale: float) -> None:
    for output in OUTPUTS:
        graph = softmax_graph(length, x_scale, output)
        for x in rows(length):
            (got,) = run(graph, [x])
            error = np.abs(got.astype(np.int64) - exact(graph, x))
            assert error.max() <= 1, f"{output}: {error.max()} LSB"


def test_fixed_output_needs_no_wide_division() -> None:
    (node,) = softmax_graph(10, 0.1, OUTPUTS[0]).nodes
    assert (node.attrs.numerator, node.attrs.bits) == (256, 0)


def test_any_output_scale_is_bit_exact_in_c(tmp_path: Path) -> None:
    graphs = [
        replace(softmax_graph(length, 0.07, output), name=f"softmax_{length}_{i}")
        for length in (10, 1000)
        for i, output in enumerate(OUTPUTS)
    ]
    jobs = [Job(program(g), [[x] for x in rows(g.inputs[0].type.shape[1])]) for g in graphs]
    for job, results in zip(jobs, run_jobs(tmp_path, jobs), strict=True):
        for sample, (got,) in zip(job.samples, results, strict=True):
            np.testing.assert_array_equal(got, run(job.program.graph, sample)[0])


def test_absurd_output_scale_is_refused() -> None:
    with pytest.raises(CompileError, match="too small"):
        softmax_graph(4, 0.1, (1e-10, 0))

"""Random int8 networks: the C on the host, sanitized, gives what the oracle gives."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tinsmith.ir.graph import Graph, Value
from tinsmith.ir.interpret import run
from tinsmith.ir.verify import verify
from tinsmith.ops.softmax import SoftmaxAttrs

from .host_c import Job, program, run_jobs
from .int8_nets import Int8Net

Draw = Callable[[st.SearchStrategy[int]], int]

STEPS = (
    "conv",
    "pointwise",
    "depthwise",
    "strided",
    "max_pool",
    "average_pool",
    "residual",
    "concat",
    "concat_rows",
    "split",
    "sigmoid",
    "relu",
    "mul",
)


def _step(net: Int8Net, kind: str, x: Value, draw: Draw) -> Value:
    """One more step after `x`, which is 4-D and stays so."""
    channels = x.type.shape[3]
    wanted = draw(st.integers(1, 9))
    if kind == "conv":
        return net.conv(x, wanted, 3)
    if kind == "pointwise":
        return net.conv(x, wanted, 1)
    if kind == "depthwise":
        return net.depthwise(x, draw(st.sampled_from([1, 3, 5])), draw(st.integers(1, 2)))
    if kind == "strided":
        return net.conv(x, wanted, draw(st.sampled_from([1, 2, 3])), 2)
    if kind in ("max_pool", "average_pool"):
        return net.pool(kind, x, draw(st.integers(1, 3)), draw(st.integers(1, 2)))
    if kind == "residual":
        return net.add("add", [x, net.conv(net.depthwise(x), channels, 1)])
    if kind == "concat":
        return net.concat([x, net.conv(x, wanted, 1)])
    if kind == "concat_rows":
        return net.concat([net.conv(x, channels, 1), net.conv(x, channels, 3)], axis=1)
    if kind == "split":
        if channels == 1:
            return x
        first = draw(st.integers(1, channels - 1))
        low, high = net.split(x, (first, channels - first))
        return net.concat([high, net.add("relu", [low])])
    if kind == "mul":
        return net.add("mul", [x, net.add("sigmoid", [net.conv(x, channels, 1)])])
    return net.add(kind, [x])


@st.composite
def networks(draw: Draw, name: str) -> Graph:
    """Up to six steps, one to two inputs, sometimes a batch of two, one or two outputs."""
    net = Int8Net(name, draw(st.integers(0, 2**16)))
    batch = draw(st.sampled_from([1, 1, 1, 2]))
    shape = (batch, draw(st.integers(1, 9)), draw(st.integers(1, 9)), draw(st.integers(1, 6)))
    x = net.input(*shape)
    if draw(st.booleans()):
        x = net.add("add", [x, net.input(*shape)])
    outputs: list[Value] = []
    for kind in draw(st.lists(st.sampled_from(STEPS), min_size=1, max_size=6)):
        x = _step(net, kind, x, draw)
        if draw(st.integers(0, 5)) == 0:
            outputs.append(x)
    if draw(st.booleans()):
        x = net.dense(x, draw(st.integers(2, 7)))
        x = net.add("softmax", [x], SoftmaxAttrs(axis=1))
    return net.build(*dict.fromkeys([*outputs, x]))


# Without shrinking: every example compiles C.
@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
)
@given(st.tuples(*(networks(f"net{i}") for i in range(4))), st.integers(0, 2**16))
def test_host_c_equals_the_oracle(graphs: tuple[Graph, ...], seed: int) -> None:
    rng = np.random.default_rng(seed)
    jobs: list[Job] = []
    for graph in graphs:
        verify(graph)
        samples = [
            [rng.integers(-128, 128, v.type.shape).astype(np.int8) for v in graph.inputs]
            for _ in range(2)
        ]
        jobs.append(Job(program(graph), samples))
    with tempfile.TemporaryDirectory() as folder:
        results = run_jobs(Path(folder), jobs)
    for job, rows in zip(jobs, results, strict=True):
        for sample, outputs in zip(job.samples, rows, strict=True):
            wanted = run(job.program.graph, sample)
            for value, got, want in zip(job.program.graph.outputs, outputs, wanted, strict=True):
                np.testing.assert_array_equal(got, want, err_msg=value.name)

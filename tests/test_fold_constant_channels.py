"""fold_constant_channels: the same outputs for every input, from fewer channels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from hypothesis import given, settings
from hypothesis import strategies as st

import tinsmith
from tinsmith import paths
from tinsmith.ir.dtypes import Array
from tinsmith.ir.graph import Graph
from tinsmith.ir.interpret import run, trace
from tinsmith.ir.verify import verify
from tinsmith.pass_manager import PassContext, run_passes
from tinsmith.passes import fold_constant_channels
from tinsmith.passes._channel_ranges import channel_ranges

from .int8_nets import Int8Net
from .test_random_graphs import networks

STUCK = 2**24  # a bias that saturates any of these sums


def damaged(graph: Graph, seed: int) -> Graph:
    """With channels that cannot move and weights that are zero, as trained networks have them."""
    rng = np.random.default_rng(seed)
    constants = dict(graph.initializers)
    for node in graph.nodes:
        if node.op.name not in ("conv2d", "dense"):
            continue
        w, bias = (constants[v].copy() for v in node.inputs[1:3])
        stuck = rng.random(len(bias)) < 0.5
        bias[stuck] = np.where(rng.random(int(stuck.sum())) < 0.5, -STUCK, STUCK)
        w[..., rng.random(w.shape[-1]) < 0.3] = 0
        constants |= {node.inputs[1]: w, node.inputs[2]: bias}
    return graph.with_nodes(graph.nodes, initializers=constants)


def samples(graph: Graph, seed: int) -> list[list[Array]]:
    rng = np.random.default_rng(seed)
    drawn = [
        [rng.integers(-128, 128, v.type.shape).astype(np.int8) for v in graph.inputs]
        for _ in range(3)
    ]
    ends = [[np.full(v.type.shape, q, np.int8) for v in graph.inputs] for q in (-128, 127)]
    return drawn + ends


def folded(graph: Graph) -> tuple[Graph, PassContext]:
    context = PassContext()
    return run_passes(graph, [fold_constant_channels.PASS], context), context


@settings(max_examples=120, deadline=None, derandomize=True)
@given(networks("net"), st.integers(0, 2**16))
def test_outputs_stay_and_ranges_hold(graph: Graph, seed: int) -> None:
    graph = damaged(graph, seed)
    verify(graph)
    small, _ = folded(graph)
    assert [v.type for v in small.outputs] == [v.type for v in graph.outputs]
    ranges = channel_ranges(graph)
    for sample in samples(graph, seed):
        for got, want in zip(run(small, sample), run(graph, sample), strict=True):
            np.testing.assert_array_equal(got, want)
        for node, arrays in trace(graph, sample):
            for value, array in zip(node.outputs, arrays, strict=True):
                rows = array.reshape(-1, array.shape[-1])
                assert np.all(rows >= ranges[value].low), value
                assert np.all(rows <= ranges[value].high), value


def inverted_residual(seed: int = 0) -> Graph:
    """Expand, depthwise, project, added onto the input; then the mean and a classifier."""
    net = Int8Net("residual", seed)
    x = net.conv(net.input(1, 6, 6, 3), 16, 3)
    inner = net.depthwise(net.add("relu", [net.conv(x, 32, 1)]))
    x = net.add("add", [x, net.conv(inner, 16, 1)])
    return net.build(net.dense(net.pool("average_pool", x, 6), 5))


def test_a_dead_channel_leaves_the_whole_block() -> None:
    graph = inverted_residual()
    expand, project = (n for n in graph.nodes if n.op.name == "conv2d" and n.attrs.groups == 1
                       and n.inputs[1].type.shape[1] == 1)  # fmt: skip
    constants = dict(graph.initializers)
    w = constants[project.inputs[1]].copy()
    w[..., :12] = 0
    constants[project.inputs[1]] = w
    graph = graph.with_nodes(graph.nodes, initializers=constants)
    small, context = folded(graph)
    shapes = {n.name: n.y.shape[-1] for n in small.nodes}
    assert shapes[expand.name] == 20
    assert shapes[project.name] == 16
    fact = context.facts[fold_constant_channels.NAME]
    assert fact.channels == 24  # of the expansion and of the depthwise convolution
    assert fact.weight_bytes == 12 * (16 + 9 + 16)
    for sample in samples(graph, 1):
        np.testing.assert_array_equal(run(small, sample)[0], run(graph, sample)[0])


def test_a_constant_in_front_of_a_border_stays() -> None:
    """Where the border is not what the channel is, it cannot become part of a bias."""
    net = Int8Net("border", 4)
    x = net.conv(net.input(1, 5, 5, 3), 4, 1)
    graph = net.build(net.conv(x, 4, 3))
    first = graph.nodes[0]
    constants = dict(graph.initializers)
    constants[first.inputs[2]] = np.full(4, STUCK, np.int32)
    stuck = graph.with_nodes(graph.nodes, initializers=constants)
    assert channel_ranges(stuck)[first.outputs[0]].constant.all()
    assert folded(stuck)[0].nodes[0].y.shape == (1, 5, 5, 4)


def test_a_healthy_network_is_left_alone_and_the_option_turns_it_off() -> None:
    graph = inverted_residual()
    assert folded(graph)[0] is graph
    context = PassContext(options={fold_constant_channels.NAME: False})
    broken = damaged(graph, 0)
    assert run_passes(broken, [fold_constant_channels.PASS], context) is broken
    assert folded(broken)[0] is not broken


def test_the_report_says_what_is_gone(tmp_path: Path) -> None:
    """Filters that lost their readers: compiled with and without, the same answers."""
    model = onnx.load(paths.GRAPHS / "digits_dscnn" / "model.onnx")
    readers = [n for n in model.graph.node if n.op_type == "Conv"]
    last = next(t for t in model.graph.initializer if t.name == readers[-1].input[1])
    weights = onnx.numpy_helper.to_array(last).copy()
    weights[:, :4] = 0
    last.CopyFrom(onnx.numpy_helper.from_array(weights, last.name))
    calibration = paths.GRAPHS / "digits_dscnn" / "calibration.npz"
    both = [
        tinsmith.compile(
            model, board="host", out=tmp_path / str(fold), calibrate=calibration,
            fold_channels=fold, pictures=False,
        )
        for fold in (True, False)
    ]  # fmt: skip
    small, whole = (project.report for project in both)
    assert whole.removed_channels == whole.removed_macs == 0
    assert small.removed_channels >= 4
    assert whole.macs - small.macs == small.removed_macs > 0
    assert small.weights_bytes < whole.weights_bytes
    samples = paths.GRAPHS / "digits_dscnn" / "samples.npz"
    answers = [tinsmith.run(project, np.load(samples)["x"]).outputs for project in both]
    for got, want in zip(answers[0].values(), answers[1].values(), strict=True):
        np.testing.assert_array_equal(got, want)

"""The partition: authorised it is the plain network bit for bit, without the secret it is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tinsmith.errors import CompileError
from tinsmith.ir.dtypes import Array
from tinsmith.ir.graph import Graph, Stage
from tinsmith.ir.interpret import run
from tinsmith.lowering import canonical, lower
from tinsmith.ops.reshape import ReshapeAttrs
from tinsmith.pass_manager import PassContext
from tinsmith.trust.cut import MODES, TrustError
from tinsmith.trust.partition import Partition, join, partition

from .int8_nets import Int8Net, residual_net
from .shared import shared_models

KEY = bytes(range(32))
OTHER = bytes(range(1, 33))
MODELS = {
    "kws": "mlperf_tiny/kws_int8.onnx",
    "vww": "mlperf_tiny/vww_int8.onnx",
    "ic": "mlperf_tiny/ic_int8.onnx",
    "ad": "mlperf_tiny/ad_int8.onnx",
    "mcunet-5fps": "mcu_nets/mcunet-5fps_int8.onnx",
    "mbv2": "mcu_nets/mbv2-w0.35_int8.onnx",
    "proxyless": "mcu_nets/proxyless-w0.3_int8.onnx",
}


def mobile_net() -> Graph:
    """Depthwise, pointwise, residual, split, concat, pools, flatten and dense below the cut."""
    net = Int8Net("mobile", 5)
    x = net.conv(net.input(1, 12, 10, 3), 16, 3, 2)
    x = net.conv(net.depthwise(x), 24, 1)
    t = net.conv(x, 16, 1)
    low, high = net.split(net.conv(t, 20, 1), (8, 12))
    x = net.concat([net.add("sigmoid", [low]), net.depthwise(high)])
    x = net.add("add", [t, net.conv(net.pool("max_pool", x, 1, 1), 16, 1)])
    x = net.pool("average_pool", net.conv(x, 12, 3), 3, 1)
    return net.build(net.add("softmax", [net.dense(x, 6)]))


def readers_net() -> Graph:
    """A chain of layers of every kind; `cut` at each makes the next one run on blinded integers."""
    net = Int8Net("readers", 8)
    x = net.conv(net.input(1, 9, 8, 3), 16, 3)  # 0; then a depthwise layer with two outputs each
    x = net.conv(x, 32, 3, 2, groups=16)  # 1
    x = net.conv(x, 24, 1)  # 2
    x = net.conv(x, 12, 3, 2)  # 3
    rows = net.add("reshape", [x], ReshapeAttrs((1, 6, 12)))  # 4
    x = net.add("dense", [rows, *net.weights(rows, (10, 12), 12)])  # 5
    x = net.dense(x, 9)  # 6, 7
    x = net.add("relu", [x])  # 8
    return net.build(net.add("dense", [x, *net.weights(x, (5, 9), 9)]))


def inputs_of(graph: Graph, seed: int) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [rng.integers(-128, 128, v.type.shape, np.int8) for v in graph.inputs]


def same(a: Graph, b: Graph, seeds: range) -> bool:
    return all(
        np.array_equal(p, q)
        for seed in seeds
        for p, q in zip(run(a, inputs_of(a, seed)), run(b, inputs_of(a, seed)), strict=True)
    )


def shared_graph(name: str) -> Graph:
    context = PassContext()
    source = canonical(shared_models() / MODELS[name], context)
    return lower(source, "int8", None, "auto", context)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", MODELS)
def test_authorised_is_the_plain_model(name: str, mode: str) -> None:
    graph = shared_graph(name)
    parts = partition(graph, mode, KEY)
    assert parts.cut.parameters_locked > 0.1 * parts.cut.parameters_above
    assert same(graph, join(parts), range(1 if name in ("mbv2", "proxyless") else 2))


@pytest.mark.parametrize("mode", MODES)
def test_small_nets_over_many_inputs(mode: str) -> None:
    graph = mobile_net()
    assert same(graph, join(partition(graph, mode, KEY)), range(100))


@pytest.mark.parametrize("mode", MODES)
def test_another_key_does_not_fit(mode: str) -> None:
    graph = mobile_net()
    mine, theirs = partition(graph, mode, KEY), partition(graph, mode, OTHER)
    mixed = replace(mine, secure=theirs.secure)
    assert not same(graph, join(mixed), range(3))
    assert same(graph, join(partition(graph, mode, KEY)), range(3))
    assert join(mine) == join(partition(graph, mode, KEY))


def test_identity_in_place_of_the_gateway() -> None:
    graph = mobile_net()
    parts = partition(graph, "permute", KEY)
    (gate,) = parts.secure
    (order,) = gate.initializers
    identity = {order: np.arange(order.type.elements, dtype=np.int32)}
    stolen = replace(parts, secure=(replace(gate, initializers=identity),))
    assert not same(graph, join(stolen), range(3))


@pytest.mark.parametrize("index", [1, 2, 3, 4], ids=["filter", "bias", "multiplier", "shift"])
def test_every_constant_of_a_channel_moves(index: int) -> None:
    """Put one kind of constant back into natural order: the network breaks."""
    graph = mobile_net()
    parts = partition(graph, "permute", KEY)
    plain = {n.name: n for n in graph.nodes}
    natural = dict(parts.nonsecure.initializers)
    changed = 0
    for node in parts.nonsecure.nodes:
        if node.op.name in ("conv2d", "dense") and node.inputs != plain[node.name].inputs:
            locked, value = node.inputs[index], plain[node.name].inputs[index]
            changed += not np.array_equal(natural[locked], graph.initializers[value])
            natural[locked] = graph.initializers[value]
    assert changed
    wrong = replace(parts, nonsecure=replace(parts.nonsecure, initializers=natural))
    assert not same(graph, join(wrong), range(3))


def test_scales_move_with_their_channels() -> None:
    graph = mobile_net()
    parts = partition(graph, "withhold", KEY)
    moved = 0
    for value, array in parts.nonsecure.initializers.items():
        if value.name.endswith(".locked") and value.type.quant is not None:
            plain = next(v for v in graph.initializers if v.name == value.name[: -len(".locked")])
            assert plain.type.quant is not None
            rows = zip(plain.type.quant.scale, graph.initializers[plain], strict=True)
            before = sorted((s, np.sort(np.ravel(row)).tolist()) for s, row in rows)
            rows = zip(value.type.quant.scale, array, strict=True)
            after = sorted((s, np.sort(np.ravel(row)).tolist()) for s, row in rows)
            assert before == after
            moved += plain.type.quant.scale != value.type.quant.scale
    assert moved >= 2


def secrets(parts: Partition) -> list[bytes]:
    """The constants of the secure world; the filter that runs over the ring is in both."""
    arrays = [a for g in parts.secure for a in g.initializers.values()]
    if parts.mode == "coreguard-otp":
        arrays = [a for a in arrays if a.dtype == np.int32]
        assert len(arrays) == 5  # two orders; bias, multiplier and shift
    return [a.tobytes() for a in arrays]


@pytest.mark.parametrize("mode", MODES)
def test_nothing_of_the_secure_world_is_in_the_other(mode: str) -> None:
    graph = mobile_net()
    parts = partition(graph, mode, KEY)
    plain = partition(graph, mode, OTHER).nonsecure.initializers
    outside = [a.tobytes() for a in (*parts.nonsecure.initializers.values(), *plain.values())]
    shared = [s for s in secrets(parts) if s in outside]
    assert not shared
    if mode == "withhold":
        layer = parts.cut.bridge[0]
        assert layer not in {n.name for n in parts.nonsecure.nodes if n.op.name != "authorize"}


def test_the_outputs_do_not_depend_on_the_pad() -> None:
    graph = mobile_net()
    parts = partition(graph, "coreguard-otp", KEY)
    assert same(join(parts, seed=1), join(parts, seed=2), range(3))
    gates = [list(g.inputs) for g in parts.secure]
    assert [g[-1].name for g in gates] == ["pad", "pad"]
    calls = [n for n in parts.nonsecure.nodes if n.op.name == "authorize"]
    assert [len(n.inputs) + 1 for n in calls] == [len(g) for g in gates]


READERS = {"conv2d0": "conv2d1", "conv2d1": "conv2d2", "conv2d2": "conv2d3", "reshape4": "dense5"}


@pytest.mark.parametrize("cut", [*READERS, "reshape6"])
def test_every_kind_of_layer_runs_on_blinded_integers(cut: str) -> None:
    """Depthwise, pointwise, 3x3, and a dense layer of many rows and of one."""
    graph = readers_net()
    parts = partition(graph, "coreguard-otp", KEY, cut=cut)
    assert parts.cut.bridge == (READERS.get(cut, "dense7"),)
    assert same(graph, join(parts), range(6))


@pytest.mark.parametrize("mode", ["withhold", "permute"])
@pytest.mark.parametrize("cut", ["conv2d0", "conv2d2", "conv2d3", "dense5", "dense7", "relu8"])
def test_every_kind_of_cut(cut: str, mode: str) -> None:
    graph = readers_net()
    assert same(graph, join(partition(graph, mode, KEY, cut=cut)), range(6))


def test_the_user_names_the_cut() -> None:
    graph = mobile_net()
    parts = partition(graph, "permute", KEY, cut="conv2d0")
    assert parts.cut.value == "conv2d0"
    assert same(graph, join(parts), range(3))


def test_a_residual_bridge_reads_two_values() -> None:
    graph = residual_net()
    parts = partition(graph, "withhold", KEY, cut="add3")
    (gate,) = parts.secure
    assert [n.op.name for n in gate.nodes] == ["conv2d", "add", "permute_channels"]
    assert len(gate.inputs) == 2
    assert same(graph, join(parts), range(3))


def test_a_skip_across_everything_is_refused() -> None:
    net = Int8Net("skips", 1)
    x = net.conv(net.input(1, 6, 6, 8), 8)
    y = net.conv(x, 8)
    graph = net.build(x, net.add("add", [x, y]))
    with pytest.raises(TrustError, match="no value carries the whole network"):
        partition(graph, "permute", KEY)


def test_channels_that_must_stay_are_refused() -> None:
    net = Int8Net("pinned", 1)
    x = net.conv(net.input(1, 6, 6, 3), 8)
    graph = net.build(net.add("add", [net.add("relu", [x]), net.input(1, 6, 6, 8)]))
    with pytest.raises(TrustError):
        partition(graph, "permute", KEY)


def test_refusals_say_what_to_do() -> None:
    graph = mobile_net()
    with pytest.raises(TrustError, match="does not learn"):
        partition(replace(graph, stage=Stage.TRAINING), "permute", KEY)
    with pytest.raises(TrustError, match="cannot be cut at 'conv2d99'") as error:
        partition(graph, "permute", KEY, cut="conv2d99")
    assert "conv2d" in (error.value.expected or "")
    with pytest.raises(TrustError, match="depthwise"):
        partition(graph, "withhold", KEY, cut="conv2d1")
    with pytest.raises(CompileError, match="unknown trust mode"):
        partition(graph, "magic", KEY)
    with pytest.raises(CompileError, match="31 bytes"):
        partition(graph, "permute", KEY[:31])

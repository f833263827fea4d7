"""Networks that stay float32 and learn: derivatives, the device against the simulator, errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from tinsmith import lowering, paths
from tinsmith.errors import CompileError
from tinsmith.frontend.onnx_export import export_model
from tinsmith.ir.dtypes import Array
from tinsmith.ir.graph import Graph, Node, Value
from tinsmith.ir.interpret import run
from tinsmith.machine.board import load_board
from tinsmith.ops.float_loss import exponential
from tinsmith.ops.unary import ClipAttrs
from tinsmith.pass_manager import PassContext, run_passes
from tinsmith.pipeline import compile_model
from tinsmith.runner.learn import Settings, learn
from tinsmith.toolchain.compile_c import build
from tinsmith.train.export import with_trained
from tinsmith.train.program import Program
from tinsmith.train.scheme import Scheme, SchemeError, Update
from tinsmith.train.simulate import Trainer, fit

from .float_nets import FloatNet, float_training_graph
from .host_c import SANITIZE
from .int8_nets import Int8Net
from .test_training_c import DSCNN, RESNET, Net, agree, label
from .training_nets import branched_net, dense_net, everything, mobile_net, some

AUTOENCODER = Net(
    "digits_autoencoder",
    Scheme(loss="mse", update=(Update(last=3, bias=True, weights=1.0),)),
)
NETS = [
    pytest.param(mobile_net, everything(), id="mobile"),
    pytest.param(mobile_net, some(), id="mobile_some"),
    pytest.param(branched_net, everything(), id="branched"),
    pytest.param(dense_net, everything("mse"), id="autoencoder"),
]


@pytest.mark.parametrize(("make", "scheme"), NETS)
def test_gradients_match_finite_differences(
    make: Callable[[type[Int8Net]], Graph], scheme: Scheme
) -> None:
    """Of the same graph in float64, in every tensor that learns."""
    graph, rng = float_training_graph(make(FloatNet), scheme), np.random.default_rng(0)
    x = rng.normal(0, 1, graph.inputs[0].type.shape)
    mse = scheme.loss == "mse"
    given = rng.normal(0, 1, graph.inputs[1].type.shape) if mse else np.array([2], np.int32)
    writes = [graph.outputs[-1], *(new for _, new in graph.updates)]
    reads = [*graph.inputs, *graph.state]
    exact = {"float_cross_entropy": _cross_entropy, "float_mse": _mse}
    program = Program(graph, graph.nodes, reads, writes, exact)

    def step(state: dict[Value, Array], rate: float) -> list[Array]:
        return program.run([x, given, np.array([rate], np.float32), *state.values()])

    start = {v: graph.initializers[v].astype(np.float64) for v in graph.state}
    news = step(start, 1.0)[1:]
    for value, new in zip(start, news, strict=True):
        expected, peak = start[value] - new, np.abs(start[value] - new).max()
        assert peak > 0, value.name
        for flat in rng.choice(value.type.elements, min(4, value.type.elements), replace=False):
            losses: list[float] = []
            for sign in (1, -1):
                moved = {v: a.copy() for v, a in start.items()}
                moved[value].flat[flat] += sign * 1e-5
                losses.append(float(step(moved, 0.0)[0][0]))
            slope = (losses[0] - losses[1]) / 2e-5
            frozen = _is_frozen(graph, value, int(flat))
            assert frozen or abs(slope - expected.flat[flat]) <= 2e-5 * peak + 1e-10, value.name


def _is_frozen(graph: Graph, value: Value, flat: int) -> bool:
    """Whether it is in a channel of a depthwise layer that does not move."""
    (node,) = [n for n in graph.nodes if n.op.name.startswith("sgd") and n.inputs[-1] == value]
    moving = getattr(node.attrs, "update_channels", ())
    return bool(moving) and np.unravel_index(flat, value.type.shape)[0] not in moving


def _cross_entropy(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    """Exact in float64, where the operator's exponential is as good as float32."""
    del node
    e = np.exp(arrays[0] - arrays[0].max())
    p, index = (e / e.sum()).reshape(-1), int(arrays[1][0])
    loss = -np.log(p[index])
    p[index] -= 1
    return np.array([loss]), p.reshape(arrays[0].shape)


def _mse(node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
    del node
    d = arrays[0] - arrays[1]
    return np.array([(d * d).mean()]), d * (2 / d.size)


def test_the_exponential_is_accurate() -> None:
    x = -np.geomspace(1e-6, 80, 20001).astype(np.float32)
    exact = np.exp(x.astype(np.float64))
    assert np.abs(exponential(x) / exact - 1).max() < 4 * 2.0**-24
    ends = exponential(np.array([0.0, -1e30, -np.inf], np.float32))
    assert ends[0] == 1
    assert np.all(ends[1:] == exponential(np.array([-87.0], np.float32)))


@pytest.mark.parametrize(
    "net", [DSCNN, pytest.param(RESNET, marks=pytest.mark.slow), AUTOENCODER], ids=label
)
def test_a_hundred_steps_are_bit_exact_on_this_machine(net: Net, tmp_path: Path) -> None:
    net.compile(tmp_path, "host", dtype="float32")
    build(tmp_path, load_board("host"), extra_cflags=SANITIZE)
    agree(tmp_path, net)


@pytest.mark.slow
@pytest.mark.parametrize("board", ["mps2-an385", "mps2-an500", "mps3-an547", "qemu-riscv32"])
def test_a_hundred_steps_are_bit_exact_on_boards(board: str, tmp_path: Path) -> None:
    DSCNN.compile(tmp_path, board, dtype="float32")
    agree(tmp_path, DSCNN)


def test_a_project_learns_and_exports_what_it_learnt(tmp_path: Path) -> None:
    model = paths.GRAPHS / "digits_dscnn" / "model.onnx"
    project = tmp_path / "project"
    scheme = Scheme(classes=10, update=(Update(last=2, bias=True, weights=1.0),))
    compile_model(model, board="host", out=project, dtype="float32", train=scheme, pictures=False)
    data = np.load(paths.GRAPHS / "digits_dscnn" / "samples.npz")
    np.savez(tmp_path / "data.npz", x=data["x"][:200], y=data["label"][:200])
    learnt = learn(project, tmp_path / "data.npz", Settings(epochs=1, rate=0.05))
    assert learnt.before.accuracy is not None
    assert learnt.after.accuracy is not None
    assert learnt.after.accuracy > max(0.8, learnt.before.accuracy + 0.3)


@pytest.mark.parametrize("classes", [None, 4])
def test_an_exported_network_computes_what_was_trained(classes: int | None) -> None:
    scheme = Scheme(classes=classes, update=(Update(last=3, bias=True, weights=0.5),))
    context = PassContext(options={"scheme": scheme})
    model = paths.GRAPHS / "digits_dscnn" / "model.onnx"
    network = lowering.canonical(model, PassContext())
    graph = run_passes(network, lowering.TO_FLOAT_TRAINING, context)
    trainer, rng = Trainer(graph), np.random.default_rng(0)
    shape = graph.inputs[0].type.shape
    data = [[rng.normal(0, 1, shape).astype(np.float32)] for _ in range(12)]
    encoded = [trainer.encode(d) for d in data]
    fit(trainer, encoded, np.arange(12) % 4, epochs=1, rate=1e-2)
    exported = export_model(with_trained(network, graph, trainer.state))
    again = run_passes(
        lowering.canonical(exported.SerializeToString(), PassContext()),
        lowering.TO_FLOAT32,
        PassContext(),
    )
    for sample, code in zip(data, encoded, strict=True):
        (got,), (want,) = run(again, sample), trainer.outputs(code)
        np.testing.assert_allclose(got.reshape(-1), want.reshape(-1), atol=1e-5)


def _with(op: str, attrs: object = None) -> Graph:
    net = FloatNet("one", 4)
    x = net.conv(net.input(1, 4, 4, 3), 4)
    return net.build(net.dense(net.add(op, [x], attrs), 3))


def test_what_cannot_be_crossed_is_said() -> None:
    with pytest.raises(CompileError, match="training cannot go through tanh"):
        float_training_graph(_with("tanh"), everything())
    head = Scheme(update=())
    assert float_training_graph(_with("tanh"), head).updates  # nothing above it learns
    assert float_training_graph(_with("relu"), everything()).updates
    clipped = float_training_graph(_with("clip", ClipAttrs(0.0, 1.0)), everything())
    assert [n.op.name for n in clipped.nodes].count("clamp_mask") == 2


@pytest.mark.parametrize("options", [{"batch": 2}, {"momentum": 0.9}, {"weight_decay": 1e-4}])
def test_only_plain_sgd(options: dict[str, float]) -> None:
    with pytest.raises(SchemeError, match="plain SGD"):
        float_training_graph(dense_net(FloatNet), Scheme(loss="mse", **options))  # type: ignore[arg-type]

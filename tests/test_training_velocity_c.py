"""Batches, momentum and weight decay on devices: bit-exact, in the plan, and not in the store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tinsmith.codegen.report import read_report
from tinsmith.machine.board import load_board
from tinsmith.runner.learn import DeviceLearner
from tinsmith.runner.project import device_samples
from tinsmith.runner.store import DeviceStore
from tinsmith.runner.training import State, TrainingProject, open_training, train_steps
from tinsmith.toolchain.compile_c import build
from tinsmith.train.delta import encode_delta
from tinsmith.train.labelled import Labelled
from tinsmith.train.scheme import Scheme
from tinsmith.train.simulate import SimulatedLearner, Trainer

from .host_c import SANITIZE
from .test_training_c import DSCNN, PART, Net, agree

BATCH = 4
STEPS = 46  # ends in the middle of a batch
KEEPING = Net(
    "digits_dscnn",
    Scheme(classes=10, batch=BATCH, momentum=0.9, weight_decay=1e-3, update=(PART,)),
)
NETS = (
    KEEPING,
    Net("digits_resnet", Scheme(rule="stochastic", batch=3, weight_decay=1e-2, update=(PART,))),
    Net(
        "digits_dscnn",
        Scheme(rule="residual4", gradients="float32", momentum=0.5, update=(PART,)),
    ),
    Net("digits_dscnn", Scheme(weight_decay=1e-2, update=(PART,))),
)


def _label(net: Net) -> str:
    s = net.scheme
    return f"{net.name}-{s.rule}-batch{s.batch}-momentum{s.momentum:g}-decay{s.weight_decay:g}"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> TrainingProject:
    folder = tmp_path_factory.mktemp("host")
    KEEPING.compile(folder, "host")
    build(folder, load_board("host"), extra_cflags=SANITIZE)
    return open_training(folder)


@pytest.mark.parametrize("net", NETS[1:], ids=_label)
def test_steps_are_bit_exact_on_this_machine(net: Net, tmp_path: Path) -> None:
    net.compile(tmp_path, "host")
    agree(tmp_path, net, STEPS)


def test_a_batch_with_momentum_and_decay_is_bit_exact(host: TrainingProject) -> None:
    agree(host.project.folder, KEEPING, STEPS)


@pytest.mark.parametrize(
    "board",
    [
        "mps2-an386",
        pytest.param("mps2-an385", marks=pytest.mark.slow),
        pytest.param("mps3-an547", marks=pytest.mark.slow),
        pytest.param("qemu-riscv32", marks=pytest.mark.slow),
    ],
)
def test_a_batch_is_bit_exact_on_a_board(board: str, tmp_path: Path) -> None:
    KEEPING.compile(tmp_path, board)
    agree(tmp_path, KEEPING, STEPS)


def _learnt(training: TrainingProject, steps: int, state: State | None = None) -> State:
    samples, labels = KEEPING.samples(steps)
    return train_steps(training.project.folder, samples, labels, 0.01, state=state).state


def _same_weights(training: TrainingProject, a: State, b: State) -> bool:
    lasting = [v for v in training.graph.state if v not in training.graph.transient]
    return all(np.array_equal(a[v], b[v]) for v in lasting)


def test_a_commit_in_the_middle_of_a_batch_keeps_the_weights(host: TrainingProject) -> None:
    """What comes back begins a batch, and learns from there as the simulator does."""
    store = DeviceStore(host)
    store.erase()
    whole, middle = _learnt(host, BATCH), _learnt(host, BATCH + 2)
    assert _same_weights(host, whole, middle)
    assert any(middle[v].any() for v in host.graph.transient)
    store.commit(middle)
    back, _ = store.load()
    assert _same_weights(host, back, middle)
    assert not any(back[v].any() for v in host.graph.transient)
    fresh = {**whole, **{v: np.zeros_like(whole[v]) for v in host.graph.transient}}
    again, wanted = _learnt(host, BATCH, back), _learnt(host, BATCH, fresh)
    assert not _same_weights(host, again, back)
    assert all(np.array_equal(again[v], wanted[v]) for v in wanted)


def test_device_and_simulator_take_back_the_same(host: TrainingProject) -> None:
    store = DeviceStore(host)
    store.erase()
    samples, labels = KEEPING.samples(12)
    rows = device_samples(host.project.graph, samples)
    trainer = Trainer(host.graph)
    encoded = [trainer.encode([row]) for row in rows[0]]
    simulated = SimulatedLearner(trainer, encoded, labels.tolist())
    start = store.load()[0]
    device = DeviceLearner(store, Labelled(rows, labels.reshape(-1, 1)), start)
    trainer.state = dict(start)
    losses: list[list[float]] = []
    for learner in (device, simulated):
        learner.learn(range(BATCH + 2), [0.01] * (BATCH + 2))
        learner.keep()
        learner.learn(range(BATCH), [0.05] * BATCH)
        learner.take_back()
        losses.append(list(learner.learn(range(12), [0.01] * 12)))
    assert losses[0] == losses[1]
    assert all(np.array_equal(a, device.state[v]) for v, a in trainer.state.items())


def test_a_delta_holds_no_velocity(host: TrainingProject) -> None:
    store = DeviceStore(host)
    store.erase()
    middle, other = _learnt(host, BATCH + 1), _learnt(host, 2 * BATCH + 3)
    delta = store.export_delta(middle)
    start = host.stored({v: host.graph.initializers[v] for v in host.graph.state})
    assert delta == encode_delta(start, host.stored(middle), host.base_hash, 0)
    assert len(start) < host.block.bytes / 2
    after, _ = store.apply_delta(delta, other)
    assert _same_weights(host, after, middle)
    assert not any(after[v].any() for v in host.graph.transient)


def test_the_report_and_the_header_say_what_is_kept(host: TrainingProject, tmp_path: Path) -> None:
    report = read_report(host.project.folder)
    header = (host.project.folder / f"{report.c_name}.h").read_text()
    assert f"STATE_BYTES {host.block.bytes}\n" in header
    assert f"STORED_BYTES {host.block.stored_bytes}\n" in header
    assert report.state_bytes == host.block.bytes
    held = sum(v.type.bytes for v in host.graph.transient)
    assert any(f"{held:,} bytes of the state" in note for note in report.notes)
    DSCNN.compile(tmp_path, "host")
    plain = open_training(tmp_path).block
    assert plain.stored_bytes == plain.bytes
    assert host.block.bytes - plain.bytes == held

"""Protected models that learn: state and outputs of the plain simulator, bit for bit."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from tinsmith import paths
from tinsmith.attack.artefacts import read_artefacts
from tinsmith.codegen.report import read_report
from tinsmith.errors import CompileError, NotAuthentic, Refused
from tinsmith.ir.dtypes import Array
from tinsmith.pipeline import compile_model
from tinsmith.runner.bench import bench, profile_step
from tinsmith.runner.compare import verify
from tinsmith.runner.execute import run_sequence
from tinsmith.runner.export import export_learnt
from tinsmith.runner.learn import Settings, learn
from tinsmith.runner.project import device_samples
from tinsmith.runner.protocol import Command, Sample
from tinsmith.runner.run import run
from tinsmith.runner.store import DeviceStore
from tinsmith.runner.training import (
    TrainingProject,
    open_training,
    train_project,
    train_steps,
)
from tinsmith.train.scheme import Scheme, Update
from tinsmith.train.simulate import Trainer
from tinsmith.trust import keys, keystream
from tinsmith.trust.learning_files import ORDERS_FILE
from tinsmith.trust.manifest import SECURE_IMAGE
from tinsmith.trust.project import Protection, protect_project

from .own_models import compile_own
from .shared import shared_models
from .test_trust_secrets import base64_arrays, files, numbers, tables

HOST, BOARD = "host", "mps2-an505"
STEPS = 40
LAST = Update(last=1, bias=True, weights=0.5)
PART = Update(last=2, bias=True, weights=0.5)
ALL = Update(node="*", bias=True, weights=1.0)
EARLY = Update(index=1, bias=True, weights=0.5)
WHOLE = Update(last=2, bias=True, weights=1.0)


@dataclass(frozen=True)
class Case:
    """A model of ours, what of it learns, and how it is protected."""

    board: str
    mode: str
    name: str
    scheme: Scheme
    steps: int = STEPS

    def compile(self, folder: Path, quota: int | None = None, cut: str | None = None) -> Path:
        trust = Protection(self.mode, cut, quota)
        compile_own(self.name, folder, self.board, train=self.scheme, trust=trust)
        return folder

    def samples(self, count: int = STEPS) -> tuple[Array, Array]:
        data = np.load(paths.GRAPHS / self.name / "samples.npz")
        return data["x"][:count], data["label"][:count].astype(np.int32)


CASES = (
    Case(HOST, "withhold", "digits_dscnn", Scheme(classes=10, update=(PART,))),
    Case(HOST, "permute", "digits_resnet", Scheme(rule="residual4", update=(PART,))),
    Case(
        HOST, "coreguard-otp", "digits_dscnn",
        Scheme(batch=3, momentum=0.9, weight_decay=1e-4, update=(LAST,)),
    ),
    Case(BOARD, "withhold", "digits_dscnn", Scheme(classes=10, update=(WHOLE,))),
    Case(HOST, "withhold", "digits_resnet", Scheme(update=(EARLY, PART))),
    Case(HOST, "permute", "digits_dscnn", Scheme(rule="residual4", update=(EARLY,))),
    Case(BOARD, "withhold", "digits_dscnn", Scheme(classes=10, update=(EARLY, PART))),
    Case(HOST, "withhold", "digits_resnet", Scheme(rule="residual4", update=(ALL,))),
    Case("mps3-an547", "permute", "digits_dscnn", Scheme(classes=10, update=(EARLY, PART)), 5),
    Case(BOARD, "withhold", "digits_dscnn", Scheme(weight_decay=1e-3, update=(ALL,)), 120),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.board}-{c.mode}-{c.name}")
def test_learns_what_the_plain_model_learns(tmp_path: Path, case: Case) -> None:
    folder = case.compile(tmp_path)
    x, labels = case.samples(case.steps)
    training = open_training(folder)
    through = EARLY in case.scheme.update or ALL in case.scheme.update
    assert read_report(folder).train_gateway_calls == (2 if through else 1 + ("otp" in case.mode))
    assert through or any(not np.array_equal(o, np.arange(o.size)) for o in training.orders)
    result = train_steps(folder, {"x": x}, labels, 0.01)
    trainer = Trainer(training.graph)
    start = dict(trainer.state)
    rows = device_samples(training.project.graph, {"x": x})
    for i, row in enumerate(zip(*rows, strict=True)):
        sample = trainer.encode(list(row))
        assert np.array_equal(result.outputs[0][i], trainer.outputs(sample)[0])
        assert result.losses[i] == np.float32(trainer.step(sample, int(labels[i]), 0.01))
    for value, array in trainer.state.items():
        assert np.array_equal(result.state[value], array), value.name
    assert all(
        not np.array_equal(start[v], trainer.state[v]) for v in list(training.graph.state)[:1]
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first case, with a quota of queries for each start."""
    return CASES[0].compile(tmp_path_factory.mktemp("learning") / "project", quota=60)


def test_the_device_does_not_hold_the_plain_state(folder: Path) -> None:
    training = open_training(folder)
    state = {v: training.graph.initializers[v] for v in training.graph.state}
    rng = np.random.default_rng(5)
    for value, array in state.items():
        low, high = value.type.dtype.range
        state[value] = rng.integers(low, high, array.shape, endpoint=True).astype(array.dtype)
    packed = training.pack(state)
    plain = TrainingProject(training.project, training.graph).pack(state)
    assert packed.shape == plain.shape
    assert np.mean(packed != plain) > 0.3
    back = training.unpack(packed)
    assert all(np.array_equal(back[v], a) for v, a in state.items())


@pytest.mark.parametrize(("case", "quota"), [(CASES[0], 2), (CASES[5], 5)], ids=["one", "half"])
def test_a_refused_step_changes_nothing(tmp_path: Path, case: Case, quota: int) -> None:
    """Nor does one whose gradients are refused after its forward pass was answered."""
    folder = case.compile(tmp_path, quota=quota)
    training = open_training(folder)
    x, labels = case.samples(4)
    rows = device_samples(training.project.graph, {"x": x})
    rates = np.full(4, 0.01, np.float32)
    steps, types = training.steps(rows, labels[:, None], rates)
    ask = Sample((), command=Command.GET_STATE)
    project = training.project
    results = run_sequence(
        project.elf(), project.board, [*types[:2], [training.state_type], *types[2:],
        [training.state_type]], [*steps[:2], ask, *steps[2:], ask],
    )  # fmt: skip
    assert [r.status for r in results] == [0, 0, 0, 8, 8, 0]
    before, after = (results[i].outputs[0] for i in (2, 5))
    assert np.array_equal(before, after)
    fresh = training.pack({v: training.graph.initializers[v] for v in training.graph.state})
    assert not np.array_equal(before, fresh)
    with pytest.raises(Refused, match="step 2: the secure world refused"):
        train_steps(folder, {"x": x}, labels, 0.01)


def test_it_commits_rolls_back_and_answers_with_what_it_learnt(
    folder: Path, tmp_path: Path
) -> None:
    x, labels = CASES[0].samples(48)
    np.savez(tmp_path / "data.npz", x=x, y=labels)
    copy = tmp_path / "simulated"
    shutil.copytree(folder, copy)
    settings = Settings(epochs=1, rate=0.01)
    learnt = learn(folder, tmp_path / "data.npz", settings)
    same = learn(copy, tmp_path / "data.npz", replace(settings, simulate=True))
    assert learnt.history.losses == same.history.losses
    assert (learnt.commit.counter, learnt.after) == (same.commit.counter, same.after)
    for value, array in same.state.items():
        assert np.array_equal(learnt.state[value], array)
    files = export_learnt(learnt.training, learnt.state, learnt.commit.counter)
    assert all(path.is_file() for path in files.values())
    stored, counter = DeviceStore(learnt.training).load()
    assert counter == learnt.commit.counter
    assert all(np.array_equal(stored[v], a) for v, a in learnt.state.items())
    assert verify(folder).ok
    assert verify(folder, fresh=True).ok
    answers = [run(folder, {"x": x}, fresh=f).device_outputs[0] for f in (True, False)]
    assert not np.array_equal(*answers)


def test_each_device_learns_in_its_own_order(folder: Path, tmp_path: Path) -> None:
    keys.new_secret(tmp_path / "root.key")
    x, labels = CASES[0].samples(20)
    results = []
    for name in ("a", "b"):
        out = tmp_path / name
        protect_project(folder, out, secret=tmp_path / "root.key", device=name, pictures=False)
        results.append((open_training(out), train_steps(out, {"x": x}, labels, 0.01)))
    (first, mine), (second, other) = results
    assert first.base_hash != second.base_hash
    assert [*map(len, first.orders)] == [*map(len, second.orders)]
    assert np.array_equal(mine.losses, other.losses)
    assert all(np.array_equal(mine.state[v], other.state[v]) for v in first.graph.state)
    states = [t.pack(r.state) for t, r in results]
    assert not np.array_equal(*states)


def test_a_step_is_measured_node_by_node(tmp_path: Path) -> None:
    folder = CASES[6].compile(tmp_path)
    report = bench(folder)
    step, plain = report.train_step_instructions, report.plain_instructions
    assert step is not None
    assert plain is not None
    assert step > plain
    nodes = profile_step(folder)
    calls = [n for n in nodes if n.node.op.name in ("authorize", "authorize_gradient")]
    assert len(calls) == report.train_gateway_calls == 2
    assert report.train_secure_instructions == sum(n.instructions or 0 for n in calls)
    assert 0.5 * step < sum(n.instructions or 0 for n in nodes) < 1.01 * step


def test_the_orders_are_in_the_secure_folder_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders: list[Array] = []
    draw = keystream.permutation

    def recorded(key: bytes, label: str, size: int) -> Array:
        orders.append(draw(key, label, size))
        return orders[-1]

    monkeypatch.setattr(keystream, "permutation", recorded)
    folder = CASES[0].compile(tmp_path / "project")
    x, labels = CASES[0].samples(3)
    np.savez(tmp_path / "data.npz", x=x, y=labels)
    learnt = learn(folder, tmp_path / "data.npz", Settings(epochs=1))
    export_learnt(learnt.training, learnt.state, learnt.commit.counter)
    assert orders
    wide = [np.asarray(o, np.int64).tobytes() for o in orders]
    secrets = tables(orders) + wide
    held = (folder / "secure" / ORDERS_FILE).read_bytes()
    assert any(secret in held for secret in wide)
    checked = 0
    for path, data in files(folder):
        if "secure" not in path.relative_to(folder).parts and path.name != "secure.elf":
            checked += 1
            for form in (data, numbers(data), base64_arrays(data)):
                assert not any(secret in form for secret in secrets), path
    assert checked > 20


def test_a_changed_image_does_not_learn(folder: Path, tmp_path: Path) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(folder, changed)
    image = changed / SECURE_IMAGE
    data = bytearray(image.read_bytes())
    data[len(data) // 4] ^= 1
    image.write_bytes(data)
    x, labels = CASES[0].samples(1)
    with pytest.raises(NotAuthentic):
        train_steps(changed, {"x": x}, labels, 0.01)
    np.savez(tmp_path / "data.npz", x=x, y=labels)
    with pytest.raises(NotAuthentic):
        learn(changed, tmp_path / "data.npz", Settings(epochs=1))


def test_what_learns_is_not_attacked(folder: Path) -> None:
    with pytest.raises(CompileError, match="learns, and the attacks work on weights that stay"):
        read_artefacts(folder)


@pytest.mark.slow
def test_mcunet_learns_on_both_sides_of_its_cut(tmp_path: Path) -> None:
    """The published 49 kB scheme: biases of the bridge and around it, weights before it."""
    compile_model(
        shared_models() / "mcu_nets" / "mcunet-5fps_int8.onnx",
        board="mps3-an547",
        out=tmp_path,
        train=paths.GRAPHS / "schemes" / "mcunet-5fps-49kb.toml",
        trust="withhold",
        pictures=False,
    )
    training = open_training(tmp_path)
    assert training.secured is not None
    rng = np.random.default_rng(0)
    row = rng.integers(-128, 128, (1, *training.project.graph.inputs[0].type.shape), np.int8)
    result = train_project(training, [row], np.array([3]), 0.01)
    trainer = Trainer(training.graph)
    loss = trainer.step(trainer.encode([row[0]]), 3, 0.01)
    assert result.losses[0] == np.float32(loss)
    assert all(np.array_equal(result.state[v], a) for v, a in trainer.state.items())
    report = read_report(tmp_path)
    assert (report.ram_bytes or 1e9) <= 146_000
    assert (report.secure_flash_bytes or 1e9) <= 54_000

"""`tinsmith train`: the device learns from a file, keeps it, and leaves it on the host.

Long: every option and every refusal of one command, on shared builds.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner, Result

import tinsmith
from tinsmith import paths
from tinsmith.cli import app
from tinsmith.ir.interpret import run
from tinsmith.lowering import canonical, lower
from tinsmith.pass_manager import PassContext
from tinsmith.quant.samples import load_samples
from tinsmith.runner.compare import find_first_difference
from tinsmith.runner.learn import run_with, score
from tinsmith.runner.learnt import boot
from tinsmith.runner.store import DeviceStore
from tinsmith.runner.training import State, TrainingProject, open_training
from tinsmith.train.delta import decode_delta
from tinsmith.train.labelled import read_labelled
from tinsmith.train.scheme import Scheme, Update

from .own_models import compile_own

SCHEME = Scheme(update=(Update(node="*", bias=True), Update(last=4, weights=1.0)))


def _compile(folder: Path, name: str, scheme: Scheme, board: str = "host") -> Path:
    return compile_own(name, folder, board, train=scheme).folder


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _compile(tmp_path_factory.mktemp("digits"), "digits_dscnn", SCHEME)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inverted digits, 300 to train on and 150 to judge by."""
    with np.load(paths.GRAPHS / "digits_dscnn" / "samples.npz") as archive:
        x, y = 1 - archive["x"], archive["label"]
    path = tmp_path_factory.mktemp("data") / "inverted.npz"
    np.savez(path, x=x[:300], y=y[:300], x_test=x[300:], y_test=y[300:])
    return path


def _train(project: Path, data: Path, *options: str) -> Result:
    argv = ["train", str(project), "--data", str(data), "--epochs", "3", *options]
    return CliRunner().invoke(app, argv)


def _json(project: Path, data: Path, *options: str) -> dict:
    done = _train(project, data, "--json", *options)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def _state(training: TrainingProject) -> State:
    """What state.npz holds."""
    with np.load(training.project.folder / "state.npz") as archive:
        return {v: archive[v.name] for v in training.graph.state}


def _equal(a: State, b: State) -> bool:
    return all(np.array_equal(a[v], b[v]) for v in b)


def test_a_device_learns_and_everything_agrees(project: Path, data: Path) -> None:
    report = _json(project, data, "--fresh")
    assert report["steps"] == 900
    assert len(report["losses"]) == 3
    assert report["evaluated_on"] == "test"
    assert report["accuracy_before"] < 0.3
    assert report["accuracy_after"] > 0.5
    training = open_training(project)
    state = _state(training)
    stored, counter = DeviceStore(training).load()
    assert counter == report["commits"] > 0
    assert _equal(stored, state)
    start = training.pack({v: training.graph.initializers[v] for v in training.graph.state})
    delta = decode_delta(
        start.tobytes(), (project / "trained.delta").read_bytes(), training.base_hash
    )
    assert delta.state == training.pack(state).tobytes()
    assert delta.counter == counter


def test_the_exported_model_is_what_the_device_computes(project: Path, data: Path) -> None:
    _json(project, data, "--fresh", "--simulate")
    training = open_training(project)
    context = PassContext()
    model = onnx.load(project / "trained.onnx")
    graph = lower(canonical(model, context), "int8", None, "auto", context)
    rng = np.random.default_rng(0)
    rows = rng.integers(-128, 128, (8, *graph.inputs[0].type.shape), np.int8)
    (device,) = run_with(training, _state(training), [rows])
    for sample, outputs in zip(rows, device, strict=True):
        assert np.array_equal(run(graph, [sample])[0], outputs)


def test_the_simulator_learns_the_same_bits(project: Path, data: Path) -> None:
    options = ("--fresh", "--seed", "5", "--schedule", "constant", "--lr", "0.02")
    training = open_training(project)
    on_device = _json(project, data, *options)
    state = _state(training)
    simulated = _json(project, data, *options, "--simulate")
    assert _equal(_state(training), state)
    for report in (on_device, simulated):
        del report["simulated"], report["commits"]
    assert on_device == simulated


@pytest.mark.parametrize("board", ["mps2-an386", "mps3-an547"])
def test_a_board_learns_the_same_bits_as_the_host(
    board: str, project: Path, data: Path, tmp_path: Path
) -> None:
    folder = _compile(tmp_path, "digits_dscnn", SCHEME, board)
    report = _json(folder, data, "--epochs", "1")
    assert report["train_step_instructions"] > 100_000
    _json(project, data, "--epochs", "1", "--fresh", "--simulate")
    assert _equal(_state(open_training(folder)), _state(open_training(project)))


def test_it_goes_on_where_it_was(project: Path, data: Path) -> None:
    first = _json(project, data, "--fresh")
    second = _json(project, data)
    assert second["accuracy_before"] == first["accuracy_after"]
    assert second["commits"] > first["commits"]
    assert _json(project, data, "--fresh") == first


def test_a_rate_that_is_too_high_is_taken_back_and_reported(project: Path) -> None:
    known = paths.GRAPHS / "digits_dscnn" / "samples.npz"  # the loss before is next to nothing
    done = _train(project, known, "--fresh", "--lr", "10", "--epochs", "1")
    assert "the loss exploded: back to the last commit, at half the rate" in done.stderr
    training = open_training(project)
    stored, _ = DeviceStore(training).load()
    assert _equal(stored, _state(training))
    assert done.exit_code == ("again and again" in done.stderr)


def test_an_auto_encoder_learns_its_input(tmp_path: Path) -> None:
    scheme = Scheme(loss="mse", update=(Update(node="*", bias=True, weights=1.0),))
    folder = _compile(tmp_path / "ad", "digits_autoencoder", scheme)
    with np.load(paths.GRAPHS / "digits_autoencoder" / "samples.npz") as archive:
        x = 1 - archive["x"][:150]
    np.savez(tmp_path / "x.npz", x=x)
    report = _json(folder, tmp_path / "x.npz", "--lr", "0.02")
    assert report["evaluated_on"] == "training"
    assert report["accuracy_before"] is None
    assert report["error_after"] < 0.7 * report["error_before"]
    np.savez(tmp_path / "y.npz", x=x, y=x.reshape(150, -1))
    again = _json(folder, tmp_path / "y.npz", "--lr", "0.02", "--fresh")
    # The input's own numbers are those that the network sees, in steps of 1/255.
    assert again["error_after"] == pytest.approx(report["error_after"], rel=0.02)


def _broken(x: np.ndarray, y: np.ndarray) -> dict[str, tuple[dict, str]]:
    nan = x.copy()
    nan[3, 0, 2, 2] = np.nan
    return {
        "a label out of range": ({"x": x, "y": np.where(y == 1, 10, y)}, "label 10 of sample"),
        "a negative label": ({"x": x, "y": y - 1}, "label -1 of sample"),
        "half a label": ({"x": x, "y": y + 0.5}, "is not a class"),
        "a label that is NaN": ({"x": x, "y": np.where(y == 1, np.nan, y)}, "label nan of sample"),
        "too few labels": ({"x": x, "y": y[1:]}, "for 20 samples"),
        "one-hot labels": ({"x": x, "y": np.eye(10)[y]}, "for 20 samples"),
        "no labels": ({"x": x}, "has no labels"),
        "NaN": ({"x": nan, "y": y}, "sample 3 of"),
        "another shape": ({"x": x[:, :, :8], "y": y}, "have shape"),
        "nothing": ({"x": x[:0], "y": y[:0]}, "holds no samples"),
    }


@pytest.mark.parametrize("case", _broken(np.zeros((4, 1, 8, 8)), np.zeros(4, int)))
def test_bad_data_is_refused_and_nothing_changes(
    case: str, project: Path, data: Path, tmp_path: Path
) -> None:
    _json(project, data, "--fresh", "--epochs", "1", "--simulate")
    before = (project / "flash.bin").read_bytes()
    with np.load(data) as archive:
        x, y = archive["x"][:20], archive["y"][:20].astype(np.int64)
    arrays, message = _broken(x, y)[case]
    np.savez(tmp_path / "bad.npz", **arrays)
    done = _train(project, tmp_path / "bad.npz")
    assert done.exit_code == 2
    assert message in done.stderr
    assert "defect" not in done.stderr
    assert (project / "flash.bin").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--lr", "-1"), "the learning rate is -1"),
        (("--lr", "nan"), "the learning rate is nan"),
        (("--epochs", "0"), "0 epochs"),
        (("--schedule", "linear"), "unknown schedule 'linear'"),
        (("--canary-margin", "nan"), "the canary margin is nan"),
    ],
)
def test_bad_settings_are_refused(
    options: tuple[str, ...], message: str, project: Path, data: Path
) -> None:
    done = _train(project, data, *options)
    assert (done.exit_code, message in done.stderr) == (2, True)


def test_a_project_that_does_not_learn_is_refused(data: Path, tmp_path: Path) -> None:
    compile_own("digits_dscnn", tmp_path, "host")
    done = _train(tmp_path, data)
    assert done.exit_code == 2
    assert "is not a project that learns" in done.stderr
    assert "--train update.toml" in done.stderr


def test_a_canary_set_rolls_back_what_makes_it_worse(project: Path, data: Path) -> None:
    """Learning inverted digits forgets the others: with those as the canary it may not."""
    known = paths.GRAPHS / "digits_dscnn" / "samples.npz"
    with np.load(known) as archive:
        x, y = archive["x"][300:350], archive["label"][300:350]
    canary = project.parent / "canary.npz"
    np.savez(canary, x=x, y=y)
    options = ("--fresh", "--canary", str(canary), "--epochs", "1", "--lr", "0.02")
    report = _json(project, data, *options)
    assert "the canary samples got worse" in report["rollback_reasons"]
    training = open_training(project)
    samples = read_labelled(canary, training.project.graph, training.graph)
    start = {v: training.graph.initializers[v] for v in training.graph.state}
    before, after = (score(training, s, samples) for s in (start, _state(training)))
    assert before.accuracy is not None
    assert after.accuracy is not None
    assert after.accuracy >= before.accuracy - 0.05
    without = _json(project, data, "--fresh", "--epochs", "1", "--lr", "0.02")
    forgetful = score(training, _state(training), samples)
    assert forgetful.accuracy is not None
    assert forgetful.accuracy < before.accuracy - 0.05
    assert without["accuracy_after"] > report["accuracy_before"]


def test_a_canary_stops_the_simulator_at_the_same_bits(project: Path, data: Path) -> None:
    known = paths.GRAPHS / "digits_dscnn" / "samples.npz"
    options = ("--fresh", "--canary", str(known), "--epochs", "1", "--lr", "0.02")
    on_device = _json(project, data, *options)
    state = _state(open_training(project))
    simulated = _json(project, data, *options, "--simulate")
    assert simulated["rollback_reasons"] == on_device["rollback_reasons"] != []
    assert _equal(_state(open_training(project)), state)


def _files(folder: Path, count: int) -> tuple[Path, np.ndarray]:
    """Some inverted digits as a file."""
    with np.load(paths.GRAPHS / "digits_dscnn" / "samples.npz") as archive:
        x = (1 - archive["x"])[300 : 300 + count]
    np.savez(folder / "in.npz", x=x)
    return folder / "in.npz", x


def test_run_answers_with_what_was_learnt(project: Path, data: Path, tmp_path: Path) -> None:
    report = _json(project, data, "--fresh", "--epochs", "1")
    samples, _ = _files(tmp_path, 30)
    training = open_training(project)
    rows = load_samples(samples, training.project.graph)
    compiled = {v: training.graph.initializers[v] for v in training.graph.state}
    answer = tinsmith.run(project, samples)
    assert answer.commit == report["commits"]
    assert np.array_equal(answer.device_outputs[0], run_with(training, _state(training), rows)[0])
    before = tinsmith.run(project, samples, fresh=True)
    assert before.commit == 0
    assert np.array_equal(before.device_outputs[0], run_with(training, compiled, rows)[0])
    assert not np.array_equal(before.device_outputs[0], answer.device_outputs[0])
    for options, commit in (((), report["commits"]), (("--fresh",), 0)):
        argv = ["run", str(project), "--input", str(samples), "--json", *options]
        assert json.loads(CliRunner().invoke(app, argv).stdout)["commit"] == commit


def test_verify_compares_with_the_same_state(project: Path, data: Path, tmp_path: Path) -> None:
    _json(project, data, "--fresh", "--epochs", "1", "--simulate")
    samples, _ = _files(tmp_path, 8)
    for fresh in (False, True):
        result = tinsmith.verify(project, samples, fresh=fresh)
        assert result.ok
        assert bool(result.run.commit) != fresh
    done = CliRunner().invoke(app, ["verify", str(project)])
    assert "bit-exact, with what was learnt (commit" in done.stdout


def test_a_wrong_oracle_state_is_noticed_and_the_node_named(
    project: Path, data: Path, tmp_path: Path
) -> None:
    """The trace runs with the learnt state too: the first node that differs is the real one."""
    _json(project, data, "--fresh", "--epochs", "1", "--simulate")
    samples, _ = _files(tmp_path, 1)
    booted = boot(project)
    trained = next(v for v in booted.graph.state if v.name.endswith(".trained"))
    array = booted.graph.initializers[trained]
    graph = replace(booted.graph, initializers={**booted.graph.initializers, trained: array // 2})
    row = [a[0] for a in load_samples(samples, graph)]
    assert find_first_difference(booted, row, 0) is None
    wrong = find_first_difference(replace(booted, graph=graph), row, 0)
    assert wrong is not None
    assert wrong.node is not None
    assert trained in wrong.node.inputs


def test_a_store_of_another_model_is_refused(data: Path, tmp_path: Path) -> None:
    model = paths.GRAPHS / "digits_resnet"
    folder = _compile(tmp_path / "p", "digits_resnet", Scheme(update=(Update(last=1, bias=True),)))
    _json(folder, data, "--epochs", "1", "--simulate")
    _compile(folder, "digits_resnet", Scheme(update=(Update(last=2, bias=True),)))
    done = CliRunner().invoke(app, ["run", str(folder), "--input", str(model / "samples.npz")])
    assert done.exit_code == 2
    assert "holds what another model has learnt" in done.stderr
    assert "--fresh" in done.stderr
    assert tinsmith.run(folder, model / "samples.npz", fresh=True).commit == 0

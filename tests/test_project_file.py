"""`tinsmith build`: everything comes from the project file; what is wrong in it is named."""

from __future__ import annotations

import inspect
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

import tinsmith
from tinsmith import paths
from tinsmith.cli import app
from tinsmith.commands.examples import EXAMPLES
from tinsmith.errors import BadInput
from tinsmith.pipeline import compile_model
from tinsmith.project_file import Build, read_builds

NET = paths.GRAPHS / "digits_autoencoder"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's project: a model, its samples and no file yet."""
    for name in ("model.onnx", "calibration.npz"):
        shutil.copy(NET / name, tmp_path)
    return tmp_path


def _write(folder: Path, text: str) -> Path:
    path = folder / "tinsmith.toml"
    path.write_text(text)
    return path


def test_builds_all_or_the_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(
        folder,
        """
        model = "model.onnx"
        calibrate = "calibration.npz"
        verify = true
        [build.here]
        board = "host"
        [build.m4]
        board = "mps2-an386"
        optimize = "flash"
        out = "firmware"
        report = true
        """,
    )
    monkeypatch.chdir(folder)
    result = CliRunner().invoke(app, ["build", "m4"])
    assert result.exit_code == 0, result.output
    assert "4 samples" in result.stdout
    assert (folder / "firmware" / "report.html").is_file()
    assert not (folder / "build").exists()
    result = CliRunner().invoke(app, ["build", "--json"])
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    assert {n: d["board"] for n, d in data.items()} == {"here": "host", "m4": "mps2-an386"}
    assert (folder / "build" / "here" / "report.json").is_file()


def test_a_build_is_what_compile_makes(folder: Path, tmp_path: Path) -> None:
    text = 'model = "model.onnx"\nboard = "host"\ncalibrate = "calibration.npz"\n'
    path = _write(folder, text)
    assert CliRunner().invoke(app, ["build", "--file", str(path)]).exit_code == 0
    made = folder / "build" / "model"
    tinsmith.compile(
        folder / "model.onnx", board="host", out=tmp_path / "by-hand",
        calibrate=folder / "calibration.npz",
    )  # fmt: skip
    for name in ("model.c", "model_weights.c", "graph.tin"):
        assert (made / name).read_bytes() == (tmp_path / "by-hand" / name).read_bytes()


def test_a_wrong_device_fails_the_build(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write(
        folder,
        'model = "model.onnx"\nboard = "host"\ncalibrate = "calibration.npz"\nverify = true\n'
        'input = "missing.npz"\n',
    )
    result = CliRunner().invoke(app, ["build", "--file", str(path)])
    assert result.exit_code == 2
    assert str(folder / "missing.npz") in result.stderr.replace("\n", "")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('model = "m.onnx"\nbord = "host"\n', "perhaps 'board'"),
        ('model = "m.onnx"\n', "missing required field `board`"),
        ('model = 5\nboard = "host"\n', "$.model"),
        ('model = "m.onnx"\nboard = "host"\nquota = 4\n', "give trust"),
        ('build = 3\nmodel = "m.onnx"\n', "no table of tables"),
        ("model = \n", "cannot be read"),
    ],
)
def test_what_is_wrong_is_named(text: str, wanted: str, tmp_path: Path) -> None:
    path = _write(tmp_path, text)
    with pytest.raises(BadInput) as caught:
        read_builds(path)
    assert wanted in str(caught.value)
    assert str(path) in str(caught.value)


def test_no_file_shows_the_least_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["build"])
    assert result.exit_code == 2
    assert 'board = "mps2-an500"' in result.stderr


def test_an_unknown_build_is_refused(folder: Path) -> None:
    path = _write(folder, 'model = "model.onnx"\nboard = "host"\n')
    result = CliRunner().invoke(app, ["build", "other", "--file", str(path)])
    assert result.exit_code == 2
    assert "one of model" in result.stderr


def test_every_option_of_compile_can_be_in_the_file() -> None:
    """A new argument of `compile` is not forgotten here; those left out are no options of it."""
    fields = set(Build.__struct_fields__)
    arguments = set(inspect.signature(compile_model).parameters)
    arguments -= {"source", "pictures", "progress", "print_after"}
    assert arguments <= fields
    assert fields - arguments == {
        "model", "trust_cut", "quota", "verify", "report", "input",
    }  # fmt: skip


COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def test_every_command_has_examples() -> None:
    assert set(EXAMPLES) == set(COMMANDS)


@pytest.mark.parametrize("line", [line for lines in EXAMPLES.values() for line in lines])
def test_examples_are_commands(line: str) -> None:
    """Its options exist and what it must have is there; nothing runs."""
    name, *words = line.split()
    COMMANDS[name].make_context(name, words)
    assert f"tinsmith {line}" in COMMANDS[name].epilog


def test_an_example_with_an_unknown_option_would_fail() -> None:
    with pytest.raises(Exception, match="No such option"):
        COMMANDS["report"].make_context("report", ["out", "--no-such"])


def test_two_builds_do_not_share_a_folder(tmp_path: Path) -> None:
    """An `out` outside of the tables holds for all of them: the last would replace the others."""
    path = tmp_path / "tinsmith.toml"
    path.write_text(
        'model = "m.onnx"\nout = "here"\n[build.a]\nboard = "host"\n[build.b]\nboard = "host"\n'
    )
    with pytest.raises(BadInput, match="builds a and b both write"):
        read_builds(path)

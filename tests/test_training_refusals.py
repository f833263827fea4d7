"""What `compile --train` refuses: a clear error, and what a project has learnt stays as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from tinsmith import paths
from tinsmith.cli import app

MODEL = paths.GRAPHS / "digits_autoencoder"
GOOD = 'loss = "mse"\n[[update]]\nlast = 2\nbias = true\n'


def _compile(folder: Path, scheme: str, *options: str) -> Result:
    (folder.parent / "update.toml").write_text(scheme)
    argv = ["compile", str(MODEL / "model.onnx"), "--board", "host", "-o", str(folder)]
    argv += ["--calibrate", str(MODEL / "calibration.npz")]
    return CliRunner().invoke(app, [*argv, "--train", str(folder.parent / "update.toml"), *options])


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that has learnt and committed."""
    folder = tmp_path_factory.mktemp("refusals") / "project"
    assert _compile(folder, GOOD).exit_code == 0
    with np.load(MODEL / "samples.npz") as archive:
        np.savez(folder.parent / "x.npz", x=1 - archive["x"][:20])
    argv = ["train", str(folder), "--data", str(folder.parent / "x.npz"), "--epochs", "1"]
    assert CliRunner().invoke(app, argv).exit_code == 0
    assert (folder / "flash.bin").is_file()
    return folder


REFUSED = {
    "a missing layer": (GOOD.replace("last = 2", 'node = "decoder/Gemm9"'), "is called 'decoder/G"),
    "a layer too many": (GOOD.replace("last = 2", "last = 9"), "last = 9, but there are"),
    "no such index": (GOOD.replace("last = 2", "index = 40"), "there is no layer 40"),
    "no such channel": (
        GOOD.replace("bias = true", "channels = [3, 9000]"),
        "the scheme trains channel 9000",
    ),
    "an unknown key": (GOOD + "wieghts = 1\n", "wieghts"),
    "more than everything": (GOOD + "weights = 1.5\n", "weights = 1.5"),
    "nothing": ('loss = "mse"\n', "the scheme trains nothing"),
    "no TOML": ("[[update", "update.toml"),
    "another loss": (GOOD.replace("mse", "hinge"), "hinge"),
    "another rule": ('rule = "sometimes"\n' + GOOD, "sometimes"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_scheme_that_does_not_fit_the_model(case: str, learnt: Path) -> None:
    scheme, message = REFUSED[case]
    before = _contents(learnt)
    done = _compile(learnt, scheme)
    assert done.exit_code == 2
    assert message in done.stderr
    assert "defect" not in done.stderr
    assert _contents(learnt) == before


def test_a_scheme_that_is_not_there(learnt: Path) -> None:
    done = _compile(learnt, GOOD, "--train", str(learnt.parent / "none.toml"))
    assert done.exit_code == 2
    assert "cannot read the update scheme" in done.stderr


def test_a_budget_too_small_for_the_scheme(learnt: Path) -> None:
    """It holds the model, and what learns beside it, but not both with a training step."""
    before = _contents(learnt)
    everything = GOOD.replace("last = 2", 'node = "*"') + "weights = 1\n"
    done = _compile(learnt, everything, "--ram", "9000")
    assert done.exit_code == 2
    assert "9,000 B" in done.stderr
    assert "defect" not in done.stderr
    assert _contents(learnt) == before


def test_the_layers_that_there_are_are_named(learnt: Path) -> None:
    scheme = GOOD.replace("last = 2", 'node = "layers.3_relo"')
    done = _compile(learnt, scheme)
    assert "layers.3_relu" in done.stderr.split("expected: ")[1]
    assert "tinsmith analyze" in done.stderr

"""`quantize --finetune`: what coarse scales lost comes back, and nothing is ever worse."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner, Result

from tinsmith import paths
from tinsmith.cli import app
from tinsmith.errors import BadInput, CompileError
from tinsmith.lowering import canonical, lower
from tinsmith.pass_manager import PassContext
from tinsmith.pipeline import QuantizedModel, quantize_model
from tinsmith.quant.batch import run_many
from tinsmith.quant.samples import match_samples
from tinsmith.recover_accuracy import FineTune
from tinsmith.train.scheme import Scheme, Update

DIGITS = paths.GRAPHS / "digits_dscnn"
TOO_WIDE = 250  # calibrated on images so much brighter than real ones, every scale is too coarse


def _digits() -> tuple[np.ndarray, np.ndarray]:
    with np.load(DIGITS / "samples.npz") as archive:
        return archive["x"], archive["label"]


def _quantize(finetune: FineTune | None = None, brighter: float = TOO_WIDE) -> QuantizedModel:
    with np.load(DIGITS / "calibration.npz") as archive:
        samples = {"x": archive["x"][:30] * np.float32(brighter)}
    return quantize_model(DIGITS / "model.onnx", samples, method="minmax", finetune=finetune)


def _classes(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    """By the integers that a device computes."""
    context = PassContext()
    graph = lower(canonical(model, context), "int8", None, "auto", context)
    (outputs,) = run_many(graph, match_samples({"x": x}, graph))
    return outputs.reshape(len(x), -1).argmax(axis=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """250 digits with labels, and without."""
    folder, (x, y) = tmp_path_factory.mktemp("digits"), _digits()
    np.savez(folder / "y.npz", x=x[:250], y=y[:250])
    np.savez(folder / "x.npz", x=x[:250])
    return folder / "y.npz", folder / "x.npz"


@pytest.mark.parametrize("labels", [True, False])
def test_what_coarse_scales_lost_comes_back(labels: bool, data: tuple[Path, Path]) -> None:
    (x, y), plain = _digits(), _quantize()
    result = _quantize(FineTune(data[0] if labels else data[1], epochs=3, rate=1e-3))
    tuned = result.fine_tuned
    assert tuned is not None
    assert tuned.labelled == labels
    assert (tuned.trained_on, tuned.held) == (200, 50)
    assert tuned.epoch > 0
    assert tuned.after.loss < 0.8 * tuned.before.loss
    before, after = ((_classes(m, x[250:]) == y[250:]).mean() for m in (plain.model, result.model))
    assert after > before + 0.02  # on 200 digits that it has not seen


def test_the_written_model_is_what_was_judged(data: tuple[Path, Path]) -> None:
    x, y = _digits()
    result = _quantize(FineTune(data[0], epochs=1, rate=1e-3, seed=3))
    tuned = result.fine_tuned
    assert tuned is not None
    held = np.random.default_rng(3).permutation(250)[:50]
    assert tuned.epoch == 1
    assert tuned.after.accuracy == (_classes(result.model, x[held]) == y[held]).mean()
    assert tuned.before.accuracy == (_classes(_quantize().model, x[held]) == y[held]).mean()


def test_weights_that_are_worse_are_not_kept(data: tuple[Path, Path]) -> None:
    result = _quantize(FineTune(data[0], epochs=1, rate=10.0), brighter=1)
    tuned = result.fine_tuned
    assert tuned is not None
    assert tuned.history.rollbacks
    assert (tuned.epoch, tuned.after) == (0, tuned.before)
    assert result.model.SerializeToString() == _quantize(brighter=1).model.SerializeToString()


def test_a_scheme_says_what_learns(data: tuple[Path, Path]) -> None:
    scheme = Scheme(loss="mse", update=(Update(last=1, bias=True, weights=0.0),))
    result = _quantize(FineTune(data[1], epochs=1, rate=1e-2, scheme=scheme))
    assert result.fine_tuned is not None
    assert result.fine_tuned.epoch == 1
    ours, plain = (
        {
            t.name.removesuffix(".trained"): onnx.numpy_helper.to_array(t)
            for t in m.graph.initializer
        }
        for m in (result.model, _quantize().model)
    )
    weights = [name for name, array in plain.items() if array.dtype == np.int8 and array.ndim > 1]
    assert weights
    assert all(np.array_equal(ours[name], plain[name]) for name in weights)


def _bad(x: np.ndarray, y: np.ndarray) -> dict[str, tuple[dict[str, np.ndarray], str]]:
    return {
        "a label out of range": ({"x": x, "y": y + 1}, "is not a class"),
        "a label that is NaN": ({"x": x, "y": y * np.nan}, "label nan of sample 0"),
        "NaN": ({"x": x * np.nan}, "contains NaN"),
        "too few": ({"x": x[:4]}, "holds 4 samples"),
        "another shape": ({"x": x[:, :, :8]}, "have shape"),
    }


@pytest.mark.parametrize("case", _bad(np.zeros((6, 1, 2, 2)), np.arange(6)))
def test_bad_samples_are_refused(case: str, tmp_path: Path) -> None:
    x, y = _digits()
    arrays, message = _bad(x[:40], np.where(y == 3, 9, y)[:40])[case]
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(BadInput, match=message):
        _quantize(FineTune(tmp_path / "bad.npz"))


def test_a_scheme_that_needs_labels_says_so(data: tuple[Path, Path]) -> None:
    scheme = Scheme(update=(Update(last=1, bias=True),))
    with pytest.raises(BadInput, match="has no labels, and the scheme's loss is 'cross_entropy'"):
        _quantize(FineTune(data[1], scheme=scheme))


def test_an_auto_encoder_learns_from_the_float_model(tmp_path: Path) -> None:
    folder = paths.GRAPHS / "digits_autoencoder"
    with np.load(folder / "samples.npz") as archive:
        np.savez(tmp_path / "x.npz", x=archive["x"][:300])
    with np.load(folder / "calibration.npz") as archive:
        samples = {"x": archive["x"][:20]}
    how = FineTune(tmp_path / "x.npz", epochs=3, rate=1e-4)
    result = quantize_model(folder / "model.onnx", samples, method="minmax", finetune=how)
    tuned = result.fine_tuned
    assert tuned is not None
    assert not tuned.labelled
    assert tuned.after.accuracy is None
    assert tuned.after.loss < 0.8 * tuned.before.loss


def _call(*options: str) -> Result:
    model, calibration = DIGITS / "model.onnx", DIGITS / "calibration.npz"
    argv = ["quantize", str(model), "--calibrate", str(calibration), *options]
    return CliRunner().invoke(app, argv)


def test_the_command(data: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "q.onnx"
    options = ("-o", str(out), "--finetune", str(data[0]), "--epochs", "1")
    done = _call(*options)
    assert done.exit_code == 0, done.output
    assert "fine-tuned on 200 samples; on 50 others: float" in done.stdout
    tuned = json.loads(_call(*options, "--json").stdout)["fine_tuned"]
    assert tuned["learnt_from"] == "labels"
    assert tuned["accuracy_after"] >= tuned["accuracy_before"]
    assert 0 <= tuned["kept_epoch"] <= 1
    onnx.checker.check_model(onnx.load(out))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--rate", "nan"), "the learning rate is nan"),
        (("--epochs", "0"), "0 epochs"),
        (("--finetune-scheme", "none.toml"), "cannot read the update scheme"),
    ],
)
def test_bad_options(
    options: tuple[str, ...], message: str, data: tuple[Path, Path], tmp_path: Path
) -> None:
    done = _call("-o", str(tmp_path / "q.onnx"), "--finetune", str(data[0]), *options)
    assert (done.exit_code, message in done.stderr) == (2, True)
    assert not (tmp_path / "q.onnx").exists()


def test_a_scheme_alone_is_refused(tmp_path: Path) -> None:
    (tmp_path / "update.toml").write_text("")
    scheme = str(tmp_path / "update.toml")
    done = _call("-o", str(tmp_path / "q.onnx"), "--finetune-scheme", scheme)
    assert done.exit_code == 2
    assert "--finetune-scheme without --finetune" in done.stderr


def test_a_scheme_that_names_a_missing_layer_is_refused(data: tuple[Path, Path]) -> None:
    scheme = Scheme(update=(Update(node="nothing/*", bias=True),))
    with pytest.raises(CompileError, match="no convolution or dense layer is called 'nothing/"):
        _quantize(FineTune(data[0], scheme=scheme))

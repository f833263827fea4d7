"""The project's own models: the files are what provenance says, and answer as well as it says."""

from __future__ import annotations

import hashlib
import tomllib

import numpy as np
import onnx
import onnxruntime
import pytest

from graphs import generate
from tinsmith import paths

NAMES = sorted(p.parent.name for p in paths.GRAPHS.glob("*/provenance.toml"))


def _session(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def test_there_are_three_models() -> None:
    assert NAMES == ["digits_autoencoder", "digits_dscnn", "digits_resnet"]


@pytest.mark.parametrize("name", NAMES)
def test_model_is_what_its_provenance_says(name: str) -> None:
    folder = paths.GRAPHS / name
    facts = tomllib.loads((folder / "provenance.toml").read_text())
    blob = (folder / "model.onnx").read_bytes()
    assert hashlib.sha256(blob).hexdigest() == facts["model_sha256"]
    assert len(blob) < 100_000
    assert (paths.GRAPHS.parent / facts["script"]).is_file()
    onnx.checker.check_model(onnx.load_from_string(blob), full_check=True)

    samples = np.load(folder / "samples.npz")
    (y,) = _session(blob).run(None, {"x": samples["x"]})
    if "accuracy" in facts:
        accuracy = np.mean(y.argmax(1) == samples["label"])
        assert accuracy >= 0.97
        assert round(float(accuracy), 4) == pytest.approx(facts["accuracy"], abs=0.003)
    else:
        error = ((y - samples["x"]) ** 2).mean(1)
        assert error[samples["label"] == 0].mean() == pytest.approx(facts["mse"], rel=0.01)
        assert error[samples["label"] == 1].mean() > 2 * facts["mse"]


@pytest.mark.parametrize("name", generate.NAMES)
@pytest.mark.parametrize("qdq", [False, True], ids=["float", "qdq"])
def test_generated_networks_run_and_keep_their_range(name: str, qdq: bool) -> None:
    model = generate.build(name, qdq=qdq)
    onnx.checker.check_model(model, full_check=True)
    (y,) = _session(model.SerializeToString()).run(None, {"x": generate.samples(name, 1)})
    assert np.isfinite(y).all()
    assert y.std() > 1e-4
    assert np.abs(y).max() < 100


@pytest.mark.parametrize("name", generate.NAMES)
def test_generation_is_reproducible(name: str) -> None:
    first, again = (generate.build(name, seed=3).SerializeToString() for _ in range(2))
    assert first == again
    assert first != generate.build(name, seed=4).SerializeToString()


@pytest.mark.parametrize("name", generate.NAMES)
def test_quantised_form_follows_the_float_one(name: str) -> None:
    x = {"x": generate.samples(name, 1)}
    real, quantised = (
        _session(generate.build(name, qdq=qdq).SerializeToString()).run(None, x)[0].ravel()
        for qdq in (False, True)
    )
    assert np.corrcoef(real, quantised)[0, 1] > 0.9

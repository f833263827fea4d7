"""From a model to measured firmware, through the command line only: the contract for scripts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from typer.testing import CliRunner, Result

from tinsmith import cli, paths

SOURCE = paths.GRAPHS / "digits_dscnn"
MODEL, CALIBRATION = SOURCE / "model.onnx", SOURCE / "calibration.npz"
REPORT_KEYS = {
    "schema_version", "model", "board", "macs", "arena_bytes", "arena_lower_bound_bytes",
    "flash_bytes", "model_flash_bytes", "ram_bytes", "stack_bytes", "nodes",
}  # fmt: skip


def call(*argv: object, exit_code: int = 0) -> Result:
    result = CliRunner().invoke(cli.app, [str(a) for a in argv])
    assert result.exit_code == exit_code, f"{argv}\n{result.stdout}\n{result.stderr}"
    return result


def compile_for(board: str, folder: Path, *options: object) -> dict[str, object]:
    argv = ("compile", MODEL, "--board", board, "--calibrate", CALIBRATION, "-o", folder)
    return json.loads(call(*argv, "--json", *options).stdout)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("host")
    compile_for("host", folder)
    return folder


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mps2-an500")
    compile_for("mps2-an500", folder)
    return folder


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """Five test images, as float32."""
    path = tmp_path / "five.npz"
    np.savez(path, x=np.load(SOURCE / "samples.npz")["x"][:5])
    return path


def test_report_has_the_promised_keys(emulated: Path) -> None:
    report = json.loads((emulated / "report.json").read_text())
    assert report.keys() >= REPORT_KEYS
    assert report["board"] == "mps2-an500"
    assert report["arena_lower_bound_bytes"] <= report["arena_bytes"] <= report["ram_bytes"]
    assert report["model_flash_bytes"] <= report["flash_bytes"]
    assert report["macs"] == sum(n["macs"] for n in report["nodes"])
    for node in report["nodes"]:
        assert {"name", "op", "macs", "bytes", "inputs", "outputs"} <= node.keys()
        assert all(isinstance(p["offset"], int) for p in (*node["inputs"], *node["outputs"]))


def test_project_is_complete(emulated: Path) -> None:
    for name in ("model.h", "model.c", "model_weights.c", "CMakeLists.txt", "graph.tin"):
        assert (emulated / name).is_file()
    assert (emulated / "build" / "firmware.elf").is_file()
    assert (emulated / "arena.png").read_bytes().startswith(b"\x89PNG")


def test_run_writes_int8_or_float(emulated: Path, samples: Path, tmp_path: Path) -> None:
    integers, reals = tmp_path / "int8.npz", tmp_path / "float.npz"
    data = json.loads(
        call("run", emulated, "--input", samples, "--output", integers, "--json").stdout
    )
    assert data["samples"] == 5
    assert 0 < data["instructions_per_inference"] < 10_000_000
    call("run", emulated, "--input", samples, "--output", reals, "--float")
    q, y = np.load(integers)["y"], np.load(reals)["y"]
    assert (q.dtype, q.shape) == (np.int8, y.shape)
    assert y.dtype == np.float32
    # The output is a softmax: scale 1/256, zero point -128.
    np.testing.assert_allclose(y, (q.astype(np.float32) + 128) / 256)
    labels = np.load(SOURCE / "samples.npz")["label"][:5]
    np.testing.assert_array_equal(y.reshape(5, -1).argmax(1), labels)


def test_run_prints_the_same_count_as_bench(emulated: Path) -> None:
    counts = []
    for _ in range(2):
        data = json.loads(call("bench", emulated, "--json").stdout)
        counts.append(data["instructions_per_inference"])
    assert counts[0] == counts[1] > 0
    report = json.loads((emulated / "report.json").read_text())
    assert report["instructions_per_inference"] == counts[0]


def test_bench_by_layer_adds_up(emulated: Path) -> None:
    data = json.loads(call("bench", emulated, "--layers", "--json").stdout)
    total = sum(n["instructions"] for n in data["nodes"])
    # SysTick counts in steps of many instructions, and the calls of the trace come on top.
    assert total == pytest.approx(data["instructions_per_inference"], rel=0.05)
    assert "share" in call("bench", emulated, "--layers").stdout


def test_verify_is_bit_exact(emulated: Path, samples: Path) -> None:
    assert "bit-exact" in call("verify", emulated, "--input", samples).stdout
    data = json.loads(call("verify", emulated, "--json").stdout)
    assert (data["ok"], data["bit_exact"], data["max_difference"]) == (True, True, 0.0)


def test_verify_fails_when_the_firmware_is_another(
    host: Path, samples: Path, tmp_path: Path
) -> None:
    """The ELF of other weights in place of the right one."""
    wrong, other = tmp_path / "wrong", tmp_path / "other"
    shutil.copytree(host, wrong)
    resnet = paths.GRAPHS / "digits_resnet"
    call(
        "compile", resnet / "model.onnx", "--board", "host", "-o", other, "--calibrate",
        resnet / "calibration.npz",
    )  # fmt: skip
    shutil.copy(other / "build" / "firmware.elf", wrong / "build" / "firmware.elf")
    result = call("verify", wrong, "--input", samples, exit_code=1)
    assert "differs from the oracle" in result.stderr
    data = json.loads(call("verify", wrong, "--input", samples, "--json", exit_code=1).stdout)
    assert data["ok"] is False
    assert data["first_difference"]["sample"] == 0


def test_float32_needs_no_calibration(samples: Path, tmp_path: Path) -> None:
    call("compile", MODEL, "--board", "host", "--dtype", "float32", "-o", tmp_path / "f")
    assert "within tolerance" in call("verify", tmp_path / "f", "--input", samples).stdout
    output = tmp_path / "y.npz"
    call("run", tmp_path / "f", "--input", samples, "--output", output)
    session = onnxruntime.InferenceSession(str(MODEL), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"x": np.load(samples)["x"]})
    np.testing.assert_allclose(np.load(output)["y"].reshape(5, 10), expected, atol=1e-4)


def test_timings_and_the_graph_after_a_pass(tmp_path: Path) -> None:
    argv = ("compile", MODEL, "--board", "host", "--calibrate", CALIBRATION, "-o", tmp_path)
    result = call(*argv, "--timings", "--print-after", "fold_qdq")
    steps = ("import_model", "fold_qdq", "plan_arena", "build", "total")
    assert all(name in result.stdout for name in steps)
    data = json.loads(call(*argv, "--timings", "--json").stdout)
    assert [name for name, _ in data["timings"] if name in steps] == list(steps[:-1])
    assert all(seconds >= 0 for _, seconds in data["timings"])
    assert result.stderr.startswith("graph ")
    assert "conv2d(" in result.stderr


def test_budget_too_small_names_the_layer(tmp_path: Path) -> None:
    argv = ("compile", MODEL, "--board", "mps2-an500", "--calibrate", CALIBRATION, "-o", tmp_path)
    result = call(*argv, "--ram", "6000", exit_code=2)
    assert "blocks.0.depthwise_relu6" in result.stderr
    assert "node: " in result.stderr
    assert not (tmp_path / "build").exists()
    assert "of flash" in call(*argv, "--flash", "4000", exit_code=2).stderr


def test_float_model_without_samples_is_told_what_to_do(tmp_path: Path) -> None:
    result = call("compile", MODEL, "--board", "host", "-o", tmp_path, exit_code=2)
    assert "--calibrate" in result.stderr


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse", "entropy", "auto"])
def test_quantize_writes_a_model_for_onnxruntime(method: str, tmp_path: Path) -> None:
    path = tmp_path / "q.onnx"
    argv = ("quantize", MODEL, "--calibrate", CALIBRATION, "-o", path, "--method", method)
    layers = json.loads(call(*argv, "--json").stdout)["layers"]
    assert len(layers) > 7
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    data = np.load(SOURCE / "samples.npz")
    images = data["x"][:60]
    answers = [session.run(None, {"x": image[None]})[0].argmax() for image in images]
    assert np.mean(np.array(answers) == data["label"][:60]) > 0.9


def test_quantised_model_compiles_without_samples(tmp_path: Path, samples: Path) -> None:
    path = tmp_path / "q.onnx"
    call("quantize", MODEL, "--calibrate", CALIBRATION, "-o", path)
    call("compile", path, "--board", "host", "-o", tmp_path / "out")
    assert "bit-exact" in call("verify", tmp_path / "out", "--input", samples).stdout


def test_unknown_method_is_refused(tmp_path: Path) -> None:
    argv = ("quantize", MODEL, "--calibrate", CALIBRATION, "-o", tmp_path / "q.onnx")
    assert "entropy" in call(*argv, "--method", "guess", exit_code=2).stderr


def test_analyze_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    argv = ("analyze", MODEL, "--board", "mps2-an500", "--calibrate", CALIBRATION)
    data = json.loads(call(*argv, "--json").stdout)
    assert data["macs"] == sum(n["macs"] for n in data["nodes"]) > 100_000
    assert all(n["kernel"] for n in data["nodes"] if n["macs"])
    text = call(*argv, "--timings").stdout
    assert "arena" in text
    assert "plan_arena" in text
    assert not list(tmp_path.iterdir())


def test_demo_into_a_relative_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    argv = ("demo", "--board", "mps2-an500", "-o", "here/demo", "--samples", "20")
    (outcome,) = json.loads(call(*argv, "--json").stdout)
    assert outcome["bit_exact"] is True
    assert outcome["accuracy"] >= 0.9
    assert outcome["instructions_per_inference"] > 0
    assert (Path("here/demo/digits_dscnn-mps2-an500") / "arena.png").is_file()
    assert "mps2-an500 says" in call(*argv).stdout


def test_demo_of_an_unknown_model() -> None:
    assert "digits_dscnn" in call("demo", "--model", "nonsense", exit_code=2).stderr

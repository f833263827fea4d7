"""Projects whose kernels come from TVM: the oracle's bits, also of every layer, with any number of
threads, with sanitizers, by plain CMake, and the same bytes every time."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tinsmith import paths
from tinsmith.codegen.project import kernels_object
from tinsmith.codegen.report import read_report
from tinsmith.ir.interpret import run as interpret
from tinsmith.runner.bench import bench, embedded_sample, profile
from tinsmith.runner.compare import find_first_difference, verify
from tinsmith.runner.latency import using_threads
from tinsmith.runner.project import open_project
from tinsmith.runner.protocol import Sample, encode_samples
from tinsmith.runner.run import run_project
from tinsmith.toolchain.compile_c import build

from .host_c import SANITIZE
from .test_training_c import DSCNN, RESNET, Net, agree, label
from .tvm_projects import TARGETS, assert_exact, compile_for, inputs, require

pytest.importorskip("tvm", reason="needs the tvm extra")

BEST, PLAIN = "x86_64-avx512-vnni", "x86_64-avx2"
# Every target; tests/benchmarks/tvm_exact.py does every model for each.
PAIRS = (
    *((model, BEST) for model in ("digits_resnet", "digits_autoencoder", "kws")),
    *((model, PLAIN) for model in ("digits_dscnn", "ic", "mbv2-w0.35")),
    *((model, "aarch64-dotprod") for model in ("ad", "vww")),
    *((model, "aarch64") for model in ("digits_resnet", "kws")),
    ("ad", "x86_64-avx-vnni"),
)


def test_every_target_has_a_model() -> None:
    assert {target for _, target in PAIRS} == set(TARGETS)


@pytest.mark.parametrize(("model", "target"), PAIRS)
def test_outputs_have_the_bits_of_the_oracle(model: str, target: str, tmp_path: Path) -> None:
    require(target)
    project = compile_for(model, target, tmp_path)
    kernels = {n.kernel for n in project.report.nodes if n.op == "conv2d" or n.op == "dense"}
    assert kernels <= {"tvm_conv2d", "tvm_dense"}
    assert project.report.kernels_bytes
    assert_exact(tmp_path)


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require(PLAIN)
    folder = tmp_path_factory.mktemp("resnet")
    compile_for("digits_resnet", PLAIN, folder)
    return folder


def test_a_trace_shows_int8_whatever_is_stored(resnet: Path) -> None:
    project = open_project(resnet)
    assert "_TRACE_RAISED(" in (resnet / "model.c").read_text()  # digits_resnet/model.onnx
    for sample in range(3):
        rows = [array[sample] for array in inputs(project.graph)]
        assert find_first_difference(project, rows, sample) is None


def test_any_number_of_threads_gives_the_same_bits(tmp_path: Path) -> None:
    require(PLAIN)
    compile_for("ic", PLAIN, tmp_path)
    project = open_project(tmp_path)
    code = (tmp_path / kernels_object(read_report(tmp_path).c_name)).read_bytes()
    assert b"__TVMBackendParallelLaunch" in code
    samples = inputs(project.graph)
    answers = []
    for count in (1, 2, 3):
        with using_threads(count):
            answers.append(run_project(project, samples).device_outputs[0])
    np.testing.assert_array_equal(answers[0], answers[1])
    np.testing.assert_array_equal(answers[0], answers[2])


def test_sanitizers_find_nothing(resnet: Path) -> None:
    project = open_project(resnet)
    build(resnet, project.board, extra_cflags=SANITIZE)
    try:
        assert_exact(resnet)
    finally:
        build(resnet, project.board)


def test_the_float32_network_is_close(tmp_path: Path) -> None:
    require(BEST)
    compile_for("digits_resnet", BEST, tmp_path, dtype="float32")
    verify(tmp_path).check()


@pytest.mark.parametrize("net", [DSCNN, RESNET], ids=label)
def test_a_training_step_has_the_bits_of_the_simulator(net: Net, tmp_path: Path) -> None:
    require(PLAIN)
    project = net.compile(tmp_path, "linux-x86_64", cpu=PLAIN)
    kernels = {n.kernel for n in project.report.train_nodes}
    assert any(k.startswith("tvm_") for k in kernels)
    agree(tmp_path, net, 20)


def test_bench_and_profile_measure_time(resnet: Path) -> None:
    with using_threads(2):
        report = bench(resnet)
    assert report.latency_us is not None
    assert report.latency_us > 0
    assert report.latency_threads == 2
    assert report.instructions_per_inference is None
    assert read_report(resnet).latency_us == report.latency_us
    nodes = profile(resnet)
    assert [p.node.name for p in nodes] == [n.name for n in open_project(resnet).graph.nodes]
    assert sum(p.microseconds or 0 for p in nodes) > 0
    assert all(p.instructions is None for p in nodes)


_BUILD_TWICE = """
import sys
from tinsmith.pipeline import compile_model
model, calibrate, out = sys.argv[1:]
compile_model(model, board="linux-x86_64", cpu="x86_64-avx2", out=out, calibrate=calibrate,
              pictures=False)
"""


def test_two_builds_are_the_same_bytes(tmp_path: Path) -> None:
    source = paths.GRAPHS / "digits_dscnn"
    made = []
    for seed in ("1", "2"):
        folder = tmp_path / seed / "p"
        arguments = (source / "model.onnx", source / "calibration.npz", folder)
        subprocess.run(
            [sys.executable, "-c", _BUILD_TWICE, *arguments],
            env=os.environ | {"PYTHONHASHSEED": seed},
            check=True,
        )
        made.append({p.relative_to(folder): p.read_bytes() for p in _sources(folder)})
    assert made[0] == made[1]
    assert Path(kernels_object("model")) in made[0]


def _sources(folder: Path) -> list[Path]:
    return [
        p for p in sorted(folder.rglob("*")) if p.is_file() and "build" not in p.parts
        and p.suffix in (".c", ".h", ".o", ".txt", ".tin", ".json")
    ]  # fmt: skip


def test_plain_cmake_builds_it_without_tvm(resnet: Path, tmp_path: Path) -> None:
    """As a library of another program: the weak pointer of TVM's object must find the pool."""
    generate = ["cmake", "-S", str(resnet), "-B", str(tmp_path), "-DTS_HARNESS=ON"]
    for command in (generate, ["cmake", "--build", str(tmp_path)]):
        subprocess.run(command, check=True, capture_output=True)
    project = open_project(resnet)
    sample = Sample(tuple(a[0] for a in embedded_sample(project)))
    (tmp_path / "samples.bin").write_bytes(encode_samples([sample]))
    subprocess.run([tmp_path / "model_harness"], cwd=tmp_path, check=True)
    want = interpret(project.graph, list(sample.inputs))[0]
    assert (tmp_path / "outputs.bin").read_bytes().endswith(want.tobytes())


def test_nothing_of_tvm_is_linked(resnet: Path) -> None:
    listed = subprocess.run(
        ["nm", "-u", resnet / kernels_object("model")], capture_output=True, text=True, check=True
    )
    asked = set(re.findall(r"U (\w+)", listed.stdout))
    assert asked <= {"memset", "memcpy", "memmove", "expf", "roundf", "rint", "floorf", "tanhf"}


_WITHOUT_TVM = """
import sys
sys.modules["tvm"] = None
from tinsmith.cli import main
sys.argv = ["tinsmith", *sys.argv[1:]]
main()
"""


@pytest.mark.parametrize(("board", "status"), [("linux-x86_64", 3), ("host", 0)])
def test_without_tvm_the_error_says_what_to_install(
    board: str, status: int, tmp_path: Path
) -> None:
    source = paths.GRAPHS / "digits_dscnn"
    done = subprocess.run(
        [
            sys.executable, "-c", _WITHOUT_TVM, "compile", source / "model.onnx", "--board", board,
            "--calibrate", source / "calibration.npz", "-o", tmp_path,
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    if status:
        assert "pip install 'tinsmith[tvm]'" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("mode", ["withhold", "permute", "coreguard-otp"])
def test_a_protected_project_computes_the_bulk_with_tvm(mode: str, tmp_path: Path) -> None:
    """The secure process, a simulation, is portable C alone."""
    require(PLAIN)
    compile_for("digits_dscnn", PLAIN, tmp_path, trust=mode)
    report = read_report(tmp_path)
    assert report.trust is not None
    assert report.trust.simulated
    assert any(n.kernel.startswith("tvm_") for n in report.nodes)
    assert not list((tmp_path / "secure").rglob("*_kernels.o"))
    assert_exact(tmp_path)


def test_a_node_without_a_rule_is_portable_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then what it reads and writes is stored as it is."""
    from tinsmith.tvm_backend import registry

    require(PLAIN)
    rules = tuple(r for r in registry.registry() if r.op != "conv2d")
    monkeypatch.setattr(registry, "registry", lambda: rules)
    report = compile_for("digits_resnet", PLAIN, tmp_path).report
    convolutions = [n for n in report.nodes if n.op == "conv2d"]
    assert {n.kernel for n in convolutions}.isdisjoint({"tvm_conv2d"})
    assert len([n for n in report.notes if "has no rule for TVM" in n]) == len(convolutions)
    assert_exact(tmp_path)

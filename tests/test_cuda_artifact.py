"""Projects for a GPU: compiled by nvcc, then run whole on an emulated driver; and their errors."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tinsmith import paths
from tinsmith.errors import CompileError, MissingTool, VerificationFailed
from tinsmith.pipeline import CompiledProject, compile_model
from tinsmith.runner import latency
from tinsmith.runner.bench import bench
from tinsmith.runner.compare import verify
from tinsmith.toolchain import nvcc

pytest.importorskip("tvm", reason="these boards need TVM: pip install 'tinsmith[tvm]'")

from .cuda_emulation import emulated, kernel_names, make_driver
from .shared import shared_models


def _nvcc() -> Path | None:
    try:
        return nvcc.find_nvcc()
    except MissingTool:
        return None


needs_nvcc = pytest.mark.skipif(_nvcc() is None, reason="nvcc is not installed")


def _compile(
    model: str, folder: Path, board: str = "cuda-sm90", **options: object
) -> CompiledProject:
    own = paths.GRAPHS / model
    if own.is_dir():
        options = {"calibrate": own / "calibration.npz", **options}
        source = own / "model.onnx"
    else:
        kind = "mlperf_tiny" if model in ("ad", "kws", "ic", "vww") else "mcu_nets"
        source = shared_models() / kind / f"{model}_int8.onnx"
    return compile_model(source, board=board, out=folder, pictures=False, **options)  # type: ignore[arg-type]


def _source(project: CompiledProject) -> Path:
    return next(project.folder.glob("*_kernels.cu"))


@contextmanager
def _gpu(project: CompiledProject, **settings: str) -> Iterator[None]:
    """An emulated driver for the project's kernels."""
    folder = project.folder / "emulated"
    if not folder.is_dir():
        make_driver(_source(project).read_text(), folder)
    with emulated(folder, **settings):
        yield


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> CompiledProject:
    return _compile("digits_dscnn", tmp_path_factory.mktemp("small") / "project")


@needs_nvcc
def test_a_project_is_bit_exact(small: CompiledProject) -> None:
    """Recorded as a graph and launched one by one, threads forward and backward."""
    for settings in ({}, {"graphs": "0"}, {"order": "backward"}):
        with _gpu(small, **settings):
            verify(small.folder).check()


@needs_nvcc
def test_a_float32_project_is_close(tmp_path: Path) -> None:
    project = _compile("digits_autoencoder", tmp_path / "project", dtype="float32", calibrate=None)
    with _gpu(project):
        verify(project.folder).check()


@needs_nvcc
def test_a_wrong_kernel_is_found_at_its_node(small: CompiledProject, tmp_path: Path) -> None:
    source = _source(small).read_text()
    name = kernel_names(source)[1]
    start = source.index(f" {name}(")
    wrong = source[:start] + source[start:].replace("+ 1", "+ 2", 1).replace("127", "90", 1)
    folder = make_driver(wrong, tmp_path / "driver")
    with emulated(folder):
        result = verify(small.folder)
    assert result.mismatch is not None
    assert result.mismatch.node is not None
    with pytest.raises(VerificationFailed, match="differs from the oracle"):
        result.check()


@needs_nvcc
def test_what_a_project_holds(small: CompiledProject) -> None:
    stem = _source(small).name.removesuffix("_kernels.cu")
    assert (small.folder / f"{stem}.cubin").read_bytes()[:4] == b"\x7fELF"
    head = (small.folder / f"{stem}_cubin.c").read_text().splitlines()[0]
    assert "sm_90" in head
    report = json.loads((small.folder / "report.json").read_text())
    assert report["board"] == report["target"] == "cuda-sm90"
    assert report["arena_bytes"] > 0
    assert {n["kernel"] for n in report["nodes"] if n["op"] == "conv2d"} == {"cuda_conv2d_s8"}
    header = (small.folder / f"{stem}.h").read_text()
    for function in ("_init", "_run", "_input", "_output", "_run_resident", "_release", "_message"):
        assert f"{stem}{function}(" in header


@needs_nvcc
def test_it_is_timed_where_a_gpu_is(
    small: CompiledProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "_SECONDS", 0.1)
    with _gpu(small):
        report = bench(small.folder)
    assert report.latency_us is not None
    assert report.latency_us > 0


@needs_nvcc
@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"devices": "0"}, "finds no GPU"),
        ({"capability": "8.6"}, "not of the compute capability"),
    ],
)
def test_a_gpu_that_does_not_fit(
    small: CompiledProject, settings: dict[str, str], text: str
) -> None:
    with _gpu(small, **settings), pytest.raises(MissingTool, match=text):
        verify(small.folder)


@needs_nvcc
def test_without_a_driver(small: CompiledProject, monkeypatch: pytest.MonkeyPatch) -> None:
    if Path("/proc/driver/nvidia").exists():
        pytest.skip("this machine has a driver")
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    with pytest.raises(MissingTool, match="no NVIDIA driver"):
        verify(small.folder)


@needs_nvcc
def test_the_machine_code_has_the_instructions(small: CompiledProject, tmp_path: Path) -> None:
    """Tensor cores for wide layers, DP4A for narrow ones; the source is for every architecture."""
    ptx, program = tmp_path / "kernels.ptx", _nvcc()
    assert program is not None
    argv = [program, "-arch=sm_86", "-std=c++17", "-w", "-ptx", "-o", ptx, _source(small)]
    subprocess.run(argv, check=True, capture_output=True)
    text = ptx.read_text()
    assert ".target sm_86" in text
    assert re.search(r"wmma\.mma\.sync\S*\.s32\.s8\.s8\.s32", text)
    assert "dp4a.s32.s32" in text


@needs_nvcc
def test_the_benchmark_times_both_ways(small: CompiledProject) -> None:
    """In a process of its own, where the emulated driver is found."""
    script = (
        "from tests.benchmarks.bench_cuda import Ours, PLACES, interleave\n"
        "from tinsmith.runner.project import open_project\n"
        f"calls = Ours(open_project({str(small.folder)!r})).calls\n"
        "print(interleave([calls[p] for p in PLACES], rounds=1).min() > 0)\n"
    )
    program = [sys.executable, "-c", script]
    with _gpu(small):
        done = subprocess.run(
            program, check=False, capture_output=True, text=True, cwd=Path(__file__).parents[1]
        )
    assert done.stdout.strip() == "True", done.stderr


def test_the_benchmark_without_a_gpu(tmp_path: Path) -> None:
    if Path("/proc/driver/nvidia").exists():
        pytest.skip("this machine has a driver")
    shared_models()
    script = Path(__file__).parent / "benchmarks" / "bench_cuda.py"
    only = ["--no-torch", "--only", "/ad", "--batches", "1", "-o", str(tmp_path)]
    program = [sys.executable, str(script), *only]
    done = subprocess.run(program, check=False, capture_output=True, text=True)
    assert done.returncode == 3
    assert "there is no NVIDIA driver" in done.stderr


def test_without_nvcc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(nvcc, "_candidates", lambda: iter(()))
    (tmp_path / "m_kernels.cu").write_text("")
    with pytest.raises(MissingTool, match="nvcc is not installed") as failure:
        nvcc.embed_kernels(tmp_path, "sm_90")
    assert "tinsmith[cuda]" in str(failure.value)


def test_a_protected_model_does_not_go(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="takes no protected model"):
        _compile("digits_dscnn", tmp_path / "project", trust="withhold")


@needs_nvcc
@pytest.mark.slow
@pytest.mark.parametrize("model", ["kws", "ic", "ad"])
def test_shared_models(model: str, tmp_path: Path) -> None:
    project = _compile(model, tmp_path / "project")
    golden = np.load(shared_models() / "mlperf_tiny" / f"{model}_golden.npz")["x"][:2]
    with _gpu(project):
        verify(project.folder).check()
        verify(project.folder, golden).check()

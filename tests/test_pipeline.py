"""The whole compiler on a small network: what it writes, refuses, and that nothing varies."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import tinsmith
from tinsmith import paths
from tinsmith.codegen.report import SCHEMA_VERSION, read_report, report_text, write_report
from tinsmith.errors import BadInput, CompileError, DoesNotFit
from tinsmith.ir.dtypes import Array
from tinsmith.ir.graph import Stage
from tinsmith.ir.interpret import run_batch
from tinsmith.ir.parser import parse
from tinsmith.machine.board import load_board
from tinsmith.ops import registry
from tinsmith.pass_manager import PassContext
from tinsmith.pipeline import CompiledProject, canonical, lower, schedule


def small_model() -> onnx.ModelProto:
    """Conv, Relu, a second Conv, add of both, GlobalAveragePool, Flatten, Gemm: float32, NCHW."""
    rng = np.random.default_rng(11)
    shapes = {
        "w0": (6, 3, 3, 3),
        "b0": (6,),
        "w1": (6, 6, 3, 3),
        "b1": (6,),
        "w2": (6, 4),
        "b2": (4,),
    }
    weights = [
        numpy_helper.from_array(rng.normal(0, 0.3, shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["c0"], "first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c0"], ["r0"], "relu"),
        helper.make_node("Conv", ["r0", "w1", "b1"], ["c1"], "second", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["r0", "c1"], ["sum"], "join"),
        helper.make_node("GlobalAveragePool", ["sum"], ["pool"], "pool"),
        helper.make_node("Flatten", ["pool"], ["flat"], "flatten"),
        helper.make_node("Gemm", ["flat", "w2", "b2"], ["y"], "classify"),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 4])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def samples(count: int = 12) -> Array:
    return np.random.default_rng(2).normal(0, 1, (count, 3, 8, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> CompiledProject:
    return tinsmith.compile(
        small_model(),
        board="host",
        calibrate={"x": samples()},
        out=tmp_path_factory.mktemp("small"),
        name="small",
    )


def test_the_project_is_complete(project: CompiledProject) -> None:
    files = {p.relative_to(project.folder).as_posix() for p in project.folder.rglob("*")}
    wanted = "small.h small.c small_weights.h small_weights.c CMakeLists.txt graph.tin report.json"
    wanted += " report.txt arena.svg arena.png arena.txt harness/main.c build/firmware.elf"
    wanted += " runtime/include/tinsmith/ts_requantize.h"
    assert set(wanted.split()) <= files


def test_run_and_verify(project: CompiledProject) -> None:
    x = samples()
    result = tinsmith.run(project, {"x": x})
    tinsmith.verify(project, {"x": x}).check()
    (got,) = result.dequantized().values()
    graph = canonical(small_model(), PassContext())
    (want,) = run_batch(graph, [x[:, None]])
    assert np.abs(got.reshape(want.shape) - want).max() < 0.1 * np.abs(want).max()


def test_load_gives_the_same_project(project: CompiledProject) -> None:
    loaded = tinsmith.load(project.folder)
    assert loaded.graph == project.graph
    assert loaded.graph.stage is Stage.PLANNED
    assert loaded.board.name == "host"
    assert loaded.report == project.report
    assert loaded.elf.is_file()
    text = (project.folder / "graph.tin").read_text()
    assert parse(text, registry()) == project.graph


def test_the_report_says_what_was_compiled(project: CompiledProject) -> None:
    report = read_report(project.folder)
    assert report.schema_version == SCHEMA_VERSION
    assert (report.model, report.board, report.dtype) == ("small", "host", "int8")
    assert report.arena_bytes >= report.arena_lower_bound_bytes > 0
    assert report.flash_bytes and report.model_flash_bytes and report.ram_bytes  # noqa: PT018
    (port,) = report.inputs
    assert (port.shape, port.onnx_shape, port.layout) == ((1, 8, 8, 3), (1, 3, 8, 8), (0, 2, 3, 1))
    assert port.scale is not None
    assert [n.index for n in report.nodes] == list(range(len(report.nodes)))
    assert sum(n.macs for n in report.nodes) == report.macs
    assert {n.onnx_name for n in report.nodes} >= {"first", "second", "join", "classify"}
    for node in report.nodes:
        for place in (*node.inputs, *node.outputs):
            assert 0 <= place.offset <= place.offset + place.bytes <= report.arena_bytes
    text = report_text(report)
    assert "small on host" in text
    assert "classify" in text or "y" in text


def test_a_report_survives_writing(project: CompiledProject, tmp_path: Path) -> None:
    report = read_report(project.folder)
    report.instructions_per_inference = 12345
    write_report(tmp_path, report)
    assert read_report(tmp_path) == report
    assert "12,345" in (tmp_path / "report.txt").read_text()


def test_what_is_not_a_project_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="is not a compiled project"):
        tinsmith.load(tmp_path)
    (tmp_path / "report.json").write_text('{"schema_version": 1}')
    with pytest.raises(CompileError, match="cannot be read"):
        tinsmith.load(tmp_path)


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        tinsmith.compile(
            small_model(), board="host", calibrate={"x": samples()}, out=tmp_path / folder
        )
    names = [p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file()]
    varying = {"report.json"}  # it has the seconds of every pass
    compared = [n for n in names if "build" not in n.parts and n.name not in varying]
    assert len(compared) > 10
    for name in compared:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_float32_stays_float(tmp_path: Path) -> None:
    project = tinsmith.compile(
        small_model(), board="host", dtype="float32", out=tmp_path, pictures=False
    )
    x = samples(3)
    tinsmith.verify(project, {"x": x}).check()
    (got,) = tinsmith.run(project, {"x": x}).outputs.values()
    (want,) = run_batch(canonical(small_model(), PassContext()), [x[:, None]])
    np.testing.assert_allclose(got, want[:, 0], rtol=1e-4, atol=1e-5)


def test_float32_without_an_fpu_is_noted() -> None:
    board = load_board("mps2-an385")
    context = PassContext()
    graph = lower(canonical(small_model(), context), "float32", None, "auto", context)
    schedule(graph, board, None, False, context)
    assert any("has no FPU" in note for note in context.notes)


def test_a_float_model_needs_calibration_or_float32(tmp_path: Path) -> None:
    with pytest.raises(CompileError) as caught:
        tinsmith.compile(small_model(), board="host", out=tmp_path)
    assert "--calibrate" in str(caught.value)
    assert "--dtype float32" in str(caught.value)


def test_a_quantised_model_needs_no_calibration(tmp_path: Path) -> None:
    quantized = tinsmith.quantize(small_model(), {"x": samples()})
    first = tinsmith.compile(quantized.model, board="host", out=tmp_path / "q", pictures=False)
    direct = tinsmith.compile(
        small_model(),
        board="host",
        calibrate={"x": samples()},
        out=tmp_path / "d",
        pictures=False,
    )
    x = {"x": samples(8)}
    for a, b in zip(
        tinsmith.run(first, x).device_outputs, tinsmith.run(direct, x).device_outputs, strict=True
    ):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(CompileError, match="cannot run in float32"):
        tinsmith.compile(quantized.model, board="host", dtype="float32", out=tmp_path / "f")
    with pytest.raises(CompileError, match="quantised already"):
        tinsmith.quantize(quantized.model, {"x": samples()})


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"board": "no-such-board"}, CompileError, "unknown board"),
        ({"dtype": "int4"}, CompileError, "unknown dtype"),
        ({"calibrate": {"wrong": samples()}}, BadInput, "wrong"),
        ({"calibrate": "no/such/file.npz"}, BadInput, "does not exist"),
        ({"ram": 1000}, DoesNotFit, "1,"),
        ({"flash": 1000}, DoesNotFit, "flash"),
    ],
)
def test_bad_requests_are_refused(
    options: dict[str, object], error: type[CompileError], text: str, tmp_path: Path
) -> None:
    request: dict[str, object] = {"board": "host", "calibrate": {"x": samples()}}
    with pytest.raises(error, match=text):
        tinsmith.compile(small_model(), out=tmp_path, pictures=False, **{**request, **options})


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CompileError, match="cannot write the project"):
        tinsmith.compile(
            small_model(), board="host", calibrate={"x": samples()}, out=tmp_path / "file"
        )


def test_strict_makes_notes_errors(tmp_path: Path) -> None:
    quantized = tinsmith.quantize(small_model(), {"x": samples()}).model
    with pytest.raises(CompileError, match="--strict") as caught:
        tinsmith.compile(
            quantized, board="host", calibrate={"x": samples()}, strict=True, out=tmp_path
        )
    assert "are not used" in str(caught.value)


@pytest.mark.skipif(shutil.which("cmake") is None, reason="needs cmake")
def test_cmake_builds_the_project(project: CompiledProject, tmp_path: Path) -> None:
    """As a subdirectory of somebody's project, the model used through its API."""
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16)\nproject(app C CXX)\n"
        f"add_subdirectory({project.folder} small)\n"
        "add_executable(app app.cpp)\ntarget_link_libraries(app PRIVATE small)\n"
    )
    (tmp_path / "app.cpp").write_text(
        '#include "small.h"\n#include <cstdio>\n'
        "alignas(SMALL_ARENA_ALIGNMENT) static unsigned char arena[SMALL_ARENA_BYTES];\n"
        "int main()\n{\n    small_context context;\n"
        "    if (small_init(&context, arena, sizeof arena) != TS_OK) return 1;\n"
        "    return small_selftest(&context);\n}\n"
    )
    build = tmp_path / "build"
    for command in (
        ["cmake", "-S", str(tmp_path), "-B", str(build), "-DTS_HARNESS=ON"],
        ["cmake", "--build", str(build)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert subprocess.run([build / "app"], check=False).returncode == 0
    assert (build / "small" / "small_harness").is_file()


def test_the_public_api_is_lazy_and_complete() -> None:
    assert {"compile", "load", "protect", "quantize", "run", "verify"} == set(tinsmith.__all__)
    assert all(callable(getattr(tinsmith, name)) for name in tinsmith.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        tinsmith.nothing  # noqa: B018
    assert paths.RUNTIME_C.is_dir()

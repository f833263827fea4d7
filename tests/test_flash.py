"""Where flash and stack go, on every emulated board: no library of mathematics, nothing twice."""

from __future__ import annotations

import subprocess
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tinsmith
from tinsmith import paths
from tinsmith.codegen.functions import Functions
from tinsmith.codegen.report import Report, read_report, report_text
from tinsmith.codegen.weights import Weights
from tinsmith.errors import InternalError
from tinsmith.ir.dtypes import Quant
from tinsmith.ir.graph import Graph, Value
from tinsmith.kernels import registry
from tinsmith.kernels.kernel import KernelCall
from tinsmith.machine.board import load_board
from tinsmith.runner.bench import bench
from tinsmith.runner.compare import verify
from tinsmith.toolchain.flash_parts import flash_parts
from tinsmith.toolchain.sizes import contributions
from tinsmith.toolchain.stack import worst_case_stack

from .firmware import compile_project
from .int8_nets import Int8Net
from .shared import shared_models

BOARDS = (
    "microbit",
    "mps2-an385",
    "mps2-an386",
    "mps2-an500",
    "mps2-an505",
    "mps3-an547",
    "qemu-riscv32",
)


def _total(report: Report) -> int:
    parts = report.flash
    assert parts is not None
    fields = [n for n in parts.__struct_fields__ if n.endswith("_bytes") and n != "weights_bytes"]
    return sum(getattr(parts, n) for n in fields) + sum(c.bytes for c in parts.code)


@pytest.mark.parametrize("board", BOARDS)
def test_parts_add_up_and_the_stack_is_bounded(board: str, tmp_path: Path) -> None:
    source = paths.GRAPHS / "digits_dscnn"
    project = tinsmith.compile(
        source / "model.onnx", board=board, out=tmp_path, calibrate=source / "calibration.npz"
    )
    report = project.report
    assert report.flash is not None
    assert _total(report) == report.flash_bytes
    assert report.flash.constants_bytes >= report.flash.weights_bytes > 0
    assert 0 <= report.flash.padding_bytes < 64
    assert report.flash.harness_bytes < 1500
    assert {c.kernel for c in report.flash.code} == {n.kernel for n in report.nodes if n.kernel}
    assert report_text(report).count("not part of a product") == 1
    origins = {origin for _, _, origin in contributions(project.elf.with_suffix(".map"))}
    taken = {Path(o).name for o in origins if o.endswith(")")}
    # Divisions and long products of cores that have none, and copies.
    assert not [name for name in taken if "libgcc" not in name and "memcpy" not in name]
    use = worst_case_stack(project.elf, project.board, f"{report.c_name}_run")
    assert use is not None
    assert (use.bytes, use.indirect) == (report.stack_bytes, ())
    checked = verify(tmp_path)
    checked.check()
    # The harness's own call of the model adds at most 16 bytes to what is painted.
    assert 0 < checked.run.stack_painted_bytes <= (report.stack_bytes or 0) + 16


def _one_scale_chain(monkeypatch: pytest.MonkeyPatch) -> Graph:
    """Dense layers of several sizes, each with one scale for all its channels."""
    net = Int8Net("chain", 5)
    monkeypatch.setattr(net, "quant", lambda: Quant.per_tensor(0.05, -128))
    x = net.input(1, 128)
    for outputs in (192, 256, 128, 24):
        x = net.dense(x, outputs)
    graph = net.build(x)
    initializers = dict(graph.initializers)
    for node in graph.nodes:
        for value in node.inputs[3:5]:
            initializers[value] = np.full_like(initializers[value], initializers[value][0])
    return replace(graph, initializers=initializers)


@pytest.mark.parametrize("name", ["dense_one_scale_row_dsp", "dense_row_mve"])
def test_dense_layers_of_any_size_share_a_function(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = _one_scale_chain(monkeypatch)
    (kernel,) = (k for k in registry() if k.name == name)
    functions, weights = Functions(), Weights("chain")
    for node in graph.nodes:
        if node.op.is_view:
            continue
        assert kernel.applies(node, graph)
        constants = kernel.constants(node, graph)
        call = KernelCall(node, kernel, constants, kernel.scratch_bytes(node, graph))
        functions.add(call, graph)
        weights.add(call)
        outputs, inputs = node.inputs[1].type.shape
        assert constants["stream"].array.nbytes <= outputs * (inputs + 4) + 28
    assert len(functions.views()) == 1
    assert len(weights.views()) == 4


def test_an_array_that_layers_have_in_common_is_in_flash_once(tmp_path: Path) -> None:
    """Two branches with the same weights, and their softmax with the same table."""
    net = Int8Net("twins", 6)
    x = net.input(1, 40)
    weights = net.weights(x, (24, 40), 40)
    state = net.rng.bit_generator.state
    outputs: list[Value] = []
    for _ in range(2):
        net.rng.bit_generator.state = state  # the same scale of the outputs
        outputs.append(net.add("softmax", [net.add("dense", [x, *weights])]))
    graph = net.build(*outputs)
    built = compile_project(tmp_path, graph, "mps2-an500")
    report = read_report(tmp_path)
    parts = flash_parts(built.elf, "twins", built.sizes.flash_bytes, report.nodes, 0)
    once = sum(node.bytes for node in report.nodes) / 2
    assert parts.constants_bytes == once


def test_a_stack_pointer_moved_by_a_register_is_refused(tmp_path: Path) -> None:
    """Of a function for which the compiler states no frame."""
    board = load_board("mps2-an500")
    (tmp_path / "a.c").write_text(
        "__attribute__((naked, used)) void f(int n)\n"
        '{ (void)n; __asm__("sub.w sp, sp, r0\\n add.w sp, sp, r0\\n bx lr"); }\n'
        "__attribute__((used)) void g(int n) { f(n); }\n"
    )
    flags = [*board.target.cflags, "-nostdlib", "-Wl,-e,g", "-Wl,--no-gc-sections"]
    subprocess.run([board.target.cc, *flags, "a.c", "-o", "a.elf"], cwd=tmp_path, check=True)
    with pytest.raises(InternalError, match=r"frame of f has no fixed size: add.* sp, sp, r0"):
        worst_case_stack(tmp_path / "a.elf", board, "g")


BASELINES = Path(__file__).parent / "benchmarks" / "baselines.toml"
# Instructions of an inference that the small form may take on a Cortex-M7.
AT_MOST = {"kws": 2_700_000, "vww": 4_600_000, "ic": 7_000_000, "ad": 270_000}


@pytest.mark.parametrize("name", AT_MOST)
def test_less_flash_than_cmsis_nn_called_ahead_of_time(name: str, tmp_path: Path) -> None:
    """Its whole ELF, harness included, like ours; at int8 size and still fast."""
    model = shared_models() / "mlperf_tiny" / f"{name}_int8.onnx"
    tinsmith.compile(model, board="mps2-an500", out=tmp_path, optimize="flash")
    report = bench(tmp_path)
    baseline = tomllib.loads(BASELINES.read_text())[name]["ahead_of_time_flash_bytes"]
    assert report.flash_bytes is not None
    assert report.flash_bytes < baseline
    assert report.instructions_per_inference is not None
    assert report.instructions_per_inference <= AT_MOST[name]

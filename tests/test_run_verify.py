"""run, verify, bench and profile on compiled projects: layouts, types, mismatches, reports."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tinsmith.codegen.report import read_report
from tinsmith.errors import BadInput, CompileError, VerificationFailed
from tinsmith.ir.graph import Graph
from tinsmith.ir.interpret import run_batch
from tinsmith.quant.arithmetic import dequantize_array, quantize_array
from tinsmith.runner import compare
from tinsmith.runner.bench import bench, profile
from tinsmith.runner.compare import seeded_samples, verify
from tinsmith.runner.project import open_project
from tinsmith.runner.run import RunResult, run

from .firmware import compile_project
from .int8_nets import Int8Net, residual_net

TO_NHWC = (0, 2, 3, 1)


def _net() -> Graph:
    """Input and output are NHWC on the device, NCHW in the model file."""
    net = Int8Net("two_layers", 5)
    x = net.input(1, 6, 5, 3)
    y = net.conv(net.depthwise(x), 4)
    graph = net.build(y)
    return Graph(
        graph.name,
        graph.inputs,
        graph.outputs,
        graph.initializers,
        graph.nodes,
        graph.stage,
        (TO_NHWC,),
        (TO_NHWC,),
    )


@pytest.fixture(scope="module")
def host_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("host") / "project"
    compile_project(folder, _net(), "host")
    return folder


def _samples(count: int) -> np.ndarray:
    return np.random.default_rng(4).integers(-128, 128, (count, 1, 6, 5, 3)).astype(np.int8)


def _oracle(samples: np.ndarray) -> np.ndarray:
    """In ONNX layout, the batch of 1 as the samples' axis."""
    return run_batch(_net(), [samples])[0][:, 0].transpose(0, 3, 1, 2)


def _only(result: RunResult) -> np.ndarray:
    (array,) = result.outputs.values()
    return array


def test_int8_in_either_layout(host_project: Path) -> None:
    samples = _samples(5)
    want = _oracle(samples)
    nchw = samples.transpose(0, 1, 4, 2, 3)
    for given in (samples, samples[:, 0], nchw, nchw[:, 0]):
        result = run(host_project, given)
        np.testing.assert_array_equal(_only(result), want)
        assert _only(result).dtype == np.int8
    np.testing.assert_array_equal(result.device_outputs[0][:, 0], want.transpose(0, 2, 3, 1))


def test_float32_is_quantised_with_the_inputs_scale(host_project: Path) -> None:
    graph = open_project(host_project).graph
    real = np.random.default_rng(0).normal(0, 2, (3, 3, 6, 5)).astype(np.float32)
    device = quantize_array(real.transpose(0, 2, 3, 1), graph.inputs[0].type)
    result = run(host_project, real)
    np.testing.assert_array_equal(_only(result), _oracle(device[:, None]))
    (name,) = result.dequantized()
    want = dequantize_array(_only(result), graph.outputs[0].type)
    np.testing.assert_array_equal(result.dequantized()[name], want)


def test_a_file_and_a_mapping_give_the_same(host_project: Path, tmp_path: Path) -> None:
    samples = _samples(2)
    np.savez(tmp_path / "f.npz", x=samples)
    want = _oracle(samples)
    np.testing.assert_array_equal(_only(run(host_project, tmp_path / "f.npz")), want)
    np.testing.assert_array_equal(_only(run(host_project, {"x0": samples})), want)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 7, 5, 3), np.int8), "shape [2, 7, 5, 3]"),
        (np.full((1, 6, 5, 3), np.nan, np.float32), "NaN"),
        (np.array(["a"]), "are <U1"),
    ],
)
def test_bad_input_is_refused(host_project: Path, array: np.ndarray, message: str) -> None:
    with pytest.raises(BadInput) as error:
        run(host_project, array)
    assert message in str(error.value)


def test_a_folder_that_is_no_project_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="not a compiled project"):
        run(tmp_path, _samples(1))


def test_a_project_without_its_elf_is_refused(tmp_path: Path) -> None:
    compile_project(tmp_path, _net(), "host")
    (tmp_path / "build" / "firmware.elf").unlink()
    with pytest.raises(CompileError, match=r"not built: it has no firmware\.elf"):
        run(tmp_path, _samples(1))


@pytest.mark.parametrize("board", ["mps2-an386", "stm32f746g-disco", "qemu-riscv32"])
def test_emulated_device_matches_the_oracle(board: str, tmp_path: Path) -> None:
    built = compile_project(tmp_path, residual_net(), board)
    checked = verify(tmp_path)
    checked.check()
    assert (checked.samples, checked.max_difference) == (4, 0)
    assert built.stack is not None
    # The harness's own call of the model adds at most 16 bytes to what is painted.
    assert 0 < checked.run.stack_painted_bytes <= built.stack.bytes + 16
    first, second = (run(tmp_path, seeded_samples(residual_net())[0]) for _ in range(2))
    np.testing.assert_array_equal(first.instructions, second.instructions)
    assert first.instructions_per_inference is not None


def test_bench_and_profile_agree(tmp_path: Path) -> None:
    compile_project(tmp_path, residual_net(), "mps2-an500")
    report = bench(tmp_path)
    total = report.instructions_per_inference
    assert read_report(tmp_path).instructions_per_inference == total
    assert f"{total:,}" in (tmp_path / "report.txt").read_text()
    nodes = profile(tmp_path)
    assert [p.node.name for p in nodes] == [n.name for n in residual_net().nodes]
    # A tick is 40 instructions; each node's share is rounded down to ticks.
    assert abs(sum(p.instructions for p in nodes) - total) <= 40 * len(nodes)
    convolutions = sum(p.instructions for p in nodes if p.node.op.name == "conv2d")
    assert convolutions > total / 2


def test_bench_on_the_host_counts_nothing(host_project: Path) -> None:
    assert bench(host_project).instructions_per_inference is None
    with pytest.raises(CompileError, match="does not count instructions"):
        profile(host_project)


@pytest.mark.parametrize("board", ["host", "mps2-an385"])
def test_a_mismatch_names_the_first_node_that_differs(board: str, tmp_path: Path) -> None:
    """The bias of the second convolution is changed behind the compiler's back.

    On cores without tuned kernels, which pack the bias with the weights.
    """
    graph = _net()
    compile_project(tmp_path, graph, board)
    weights = tmp_path / "two_layers_weights.c"
    text, count = re.subn(
        r"(const int32_t two_layers_conv2d1\w*bias\w*\[4\] = \{\s*)(-?\d+)",
        lambda m: f"{m.group(1)}{int(m.group(2)) + 100000}",
        weights.read_text(),
    )
    assert count == 1
    weights.write_text(text)
    compare.build(tmp_path, open_project(tmp_path).board)
    result = verify(tmp_path)
    assert result.mismatch is not None
    assert result.mismatch.node is not None
    assert result.mismatch.node.name == graph.nodes[1].name
    assert result.mismatch.index[-1] == 0
    assert not result.ok
    with pytest.raises(VerificationFailed, match="conv2d 'conv2d1' differs from the oracle"):
        result.check()


def test_float_comparison_has_its_tolerance() -> None:
    want = np.array([1.0, 1.0, 0.0, np.nan, np.inf], np.float32)
    got = np.array([1.0005, 1.002, 5e-5, np.nan, 1.0], np.float32)
    assert compare.differs(got, want).tolist() == [False, True, False, False, True]


def test_seeded_samples_reach_both_ends() -> None:
    (samples,) = seeded_samples(_net())
    assert samples.shape == (4, 1, 6, 5, 3)
    assert {-128, 127} <= set(np.unique(samples[2:]).tolist())


@pytest.mark.parametrize("board", ["host", "mps2-an385"])
def test_changed_c_is_built_again(board: str, tmp_path: Path) -> None:
    compile_project(tmp_path, _net(), board)
    assert verify(tmp_path).ok
    elf = open_project(tmp_path).elf()
    built = elf.stat().st_mtime_ns
    assert verify(tmp_path).ok
    assert elf.stat().st_mtime_ns == built
    weights = tmp_path / "two_layers_weights.c"
    numbers = re.findall(r"(?<=[{ ])-?\d+(?=,)", weights.read_text())
    old = max(numbers, key=lambda text: abs(int(text)))
    weights.write_text(weights.read_text().replace(f" {old},", " 1,", 1))
    result = verify(tmp_path)
    assert result.mismatch is not None
    assert result.mismatch.node is not None

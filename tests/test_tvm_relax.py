"""A graph as a Relax module: the oracle's bits, and the example of docs/tvm.md as it stands."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from tinsmith import paths
from tinsmith.errors import CompileError
from tinsmith.ir.graph import Graph
from tinsmith.ir.interpret import run
from tinsmith.machine.target import load_target
from tinsmith.pipeline import CompiledProject

from .tvm_projects import compile_for, inputs, require

pytest.importorskip("tvm", reason="needs the tvm extra")
from tinsmith.tvm_backend.relax_module import to_relax

PAGE = Path(__file__).resolve().parents[1] / "docs" / "tvm.md"
PLAIN = "x86_64-avx2"


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory: pytest.TempPathFactory) -> CompiledProject:
    require(PLAIN)
    return compile_for("digits_autoencoder", PLAIN, tmp_path_factory.mktemp("relax"))


def _exact(graph: Graph, fuse: bool) -> None:
    model = to_relax(graph, load_target(PLAIN), fuse=fuse)
    samples = inputs(graph)
    for i in range(len(samples[0])):
        rows = [array[i] for array in samples]
        for got, want in zip(model(*rows), run(graph, rows), strict=True):
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("fuse", [False, True])
def test_it_has_the_bits_of_the_oracle(autoencoder: CompiledProject, fuse: bool) -> None:
    _exact(autoencoder.graph, fuse)


def test_a_network_with_views_and_scratch(tmp_path: Path) -> None:
    require(PLAIN)
    _exact(compile_for("digits_dscnn", PLAIN, tmp_path).graph, fuse=False)


def test_inputs_that_do_not_match(autoencoder: CompiledProject) -> None:
    model = to_relax(autoencoder.graph, load_target(PLAIN))
    shape = autoencoder.graph.inputs[0].type.shape
    with pytest.raises(CompileError, match="float32"):
        model(np.zeros(shape, np.float32))
    with pytest.raises(CompileError, match="missing"):
        model()


def test_a_target_without_tvm(autoencoder: CompiledProject) -> None:
    with pytest.raises(CompileError, match="do not come from TVM"):
        to_relax(autoencoder.graph, load_target("cortex-m7"))


def test_the_example_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (text,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    for name in ("model.onnx", "calibration.npz"):
        shutil.copy(paths.GRAPHS / "digits_autoencoder" / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(text, names)
    graph = names["project"].graph  # type: ignore[attr-defined]
    np.testing.assert_array_equal(names["y"], run(graph, [names["x"]])[0])

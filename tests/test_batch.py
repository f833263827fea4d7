"""Networks over several samples at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tinsmith import paths
from tinsmith.errors import CompileError
from tinsmith.ir.interpret import run
from tinsmith.pipeline import compile_model
from tinsmith.quant.batch import with_batch
from tinsmith.runner.compare import verify
from tinsmith.runner.execute import run_samples
from tinsmith.runner.project import open_project
from tinsmith.runner.protocol import Sample

from .int8_nets import Int8Net, residual_net

OWN = paths.GRAPHS / "digits_autoencoder"


def test_a_batch_is_its_samples_one_by_one() -> None:
    graph = residual_net()
    rng = np.random.default_rng(3)
    x = rng.integers(-128, 128, (4, *graph.inputs[0].type.shape[1:])).astype(np.int8)
    together = run(with_batch(graph, 4), [x])
    for i in range(4):
        for whole, one in zip(together, run(graph, [x[i : i + 1]]), strict=True):
            np.testing.assert_array_equal(whole[i : i + 1], one)
    assert with_batch(graph, 1) is graph


def test_what_has_no_batch() -> None:
    net = Int8Net("rows")
    graph = net.build(net.concat([net.input(1, 2, 2, 4), net.input(1, 2, 2, 4)], axis=0))
    with pytest.raises(CompileError, match="a batch of 2"):
        with_batch(graph, 2)
    with pytest.raises(CompileError, match="a batch of 0"):
        with_batch(residual_net(), 0)


def test_a_project_computes_a_batch(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    given = OWN / "calibration.npz"
    compile_model(
        OWN / "model.onnx", board="host", out=folder, calibrate=given, batch=3, pictures=False
    )
    verify(folder).check()
    project = open_project(folder)
    shapes = [v.type.shape for v in (*project.graph.inputs, *project.graph.outputs)]
    assert all(shape[0] == 3 for shape in shapes)
    types = [v.type for v in project.graph.outputs]
    zeros = Sample(tuple(np.zeros(v.type.shape, np.int8) for v in project.graph.inputs))
    (result,) = run_samples(project.elf(), project.board, [types], [zeros])
    (output,) = result.outputs
    assert (output == output[:1]).all()

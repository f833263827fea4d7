"""`diff` finds the layer where two forms of a network part, whatever its names and layout."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from typer.testing import CliRunner

import tinsmith
from tinsmith import paths
from tinsmith.cli import app
from tinsmith.errors import CompileError
from tinsmith.frontend.onnx_import import import_model
from tinsmith.numerics.difference import _axes, difference
from tinsmith.numerics.match import match_values
from tinsmith.numerics.sides import open_side

NET = paths.GRAPHS / "digits_dscnn"
MODEL, SAMPLES = NET / "model.onnx", NET / "calibration.npz"


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One network on an emulated board and on the host."""
    folder = tmp_path_factory.mktemp("diff")
    for board in ("mps2-an386", "host"):
        tinsmith.compile(MODEL, board=board, out=folder / board, calibrate=SAMPLES, pictures=False)
    return folder / "mps2-an386", folder / "host"


def _changed(folder: Path, initializer: int, amount: float) -> tuple[Path, str]:
    """The float model with one element of a weight moved, and the node that has it."""
    model = onnx.load(MODEL)
    convs = [n for n in model.graph.node if n.op_type == "Conv"]
    node = convs[initializer]
    weight = next(t for t in model.graph.initializer if t.name == node.input[1])
    array = numpy_helper.to_array(weight).copy()
    array.flat[0] += amount
    weight.CopyFrom(numpy_helper.from_array(array, weight.name))
    path = folder / "changed.onnx"
    onnx.save(model, path)
    return path, node.name


def _sides(a: object, b: object, count: int = 3):
    return [open_side(str(s), SAMPLES, count, {}) for s in (a, b)]


def test_device_and_oracle_are_one(projects: tuple[Path, Path]) -> None:
    for folder in projects:
        result = difference(*_sides(folder, f"{folder}:oracle"))
        assert result.parts_at is None
        assert result.steepest is None
        assert result.unmatched == ()
        assert all(math.isinf(x.sqnr_db) and x.by_name for x in result.layers)


def test_two_boards_are_one(projects: tuple[Path, Path]) -> None:
    assert difference(*_sides(*projects)).parts_at is None


def test_quantisation_costs_what_it_should(projects: tuple[Path, Path]) -> None:
    result = difference(*_sides(MODEL, projects[1]))
    assert result.parts_at is result.layers[0]
    assert all(20 < x.sqnr_db < 80 for x in result.layers)
    assert all(x.by_name for x in result.layers[:-1])
    first = result.layers[0]  # one rounding: no more than a step, when weights are exact enough
    assert first.max_lsb is not None
    assert first.max_lsb < 3
    assert first.shape == (1, 16, 16, 16)


@pytest.mark.parametrize("which", [1, 3])
def test_the_changed_layer_is_found(which: int, tmp_path: Path) -> None:
    changed, node = _changed(tmp_path, which, 0.5)
    result = difference(*_sides(MODEL, changed))
    assert result.parts_at is not None
    assert result.parts_at.onnx_name == node
    before = [x for x in result.layers if x.differing == 0]
    assert len(before) >= which  # everything above it is untouched
    sample, index = result.parts_at.first or (-1, ())
    assert sample == 0
    assert index[1] == 0  # the first filter


def test_names_are_not_needed() -> None:
    graph = import_model(MODEL)
    renamed = {v: replace(v, name=f"other{i}") for i, v in enumerate(
        v for n in graph.nodes for v in n.outputs)}  # fmt: skip
    nodes = tuple(
        replace(
            n,
            inputs=tuple(renamed.get(v, v) for v in n.inputs),
            outputs=tuple(renamed[v] for v in n.outputs),
        )
        for n in graph.nodes
    )
    other = replace(graph, nodes=nodes, outputs=tuple(renamed[v] for v in graph.outputs))
    pairs = match_values(graph, other)
    named = match_values(graph, graph)
    assert not any(p.by_name for p in pairs)
    assert {renamed[p.a] for p in pairs} == {p.b for p in pairs}
    assert {p.a for p in pairs} <= {p.a for p in named} | set(graph.outputs)


def test_axes_where_two_orders_fit() -> None:
    rng = np.random.default_rng(5)
    first = rng.standard_normal((1, 4, 4, 4))
    last = first.transpose(0, 2, 3, 1)
    assert _axes(first, last + 0.1) == (0, 3, 1, 2)
    assert _axes(first, first + 0.1) == (0, 1, 2, 3)
    assert _axes(first, np.zeros((1, 4, 4, 5))) is None
    assert _axes(first, np.zeros((4, 16))) is None


def test_command(projects: tuple[Path, Path], tmp_path: Path) -> None:
    argv = ["diff", str(MODEL), str(projects[1]), "--input", str(SAMPLES), "--samples", "2"]
    result = CliRunner().invoke(app, [*argv, "--json", "-o", str(tmp_path / "new")])
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    assert data["parts_at"] == data["layers"][0]["node"]
    assert data["samples"] == 2
    assert (tmp_path / "new" / "diff.png").stat().st_size > 10_000
    worst = min(x["sqnr_db"] for x in data["layers"])
    for bar, code in ((worst - 0.1, 0), (worst + 0.1, 1)):
        done = CliRunner().invoke(app, [*argv, "--min-sqnr", str(bar)])
        assert done.exit_code == code, done.output
    assert "they part at conv2d" in done.stdout


def test_the_page_shows_what_quantisation_cost(projects: tuple[Path, Path]) -> None:
    argv = ["report", str(projects[1]), "--float", str(MODEL), "--input", str(SAMPLES)]
    result = CliRunner().invoke(app, [*argv, "--json"])
    assert result.exit_code == 0, result.output
    errors = json.loads(result.stdout)["errors"]
    result = CliRunner().invoke(app, argv)
    assert result.exit_code == 0, result.output
    page = (projects[1] / "report.html").read_text()
    for error in errors.values():
        assert f">{error['sqnr_db']:.1f}<" in page
    assert CliRunner().invoke(app, argv[:-2]).exit_code == 2


@pytest.mark.parametrize(
    ("a", "text"), [("missing.onnx", "missing.onnx"), (f"{MODEL}:oracle", "not a compiled project")]
)
def test_what_is_no_side_is_refused(a: str, text: str) -> None:
    with pytest.raises(CompileError, match=text):
        open_side(a, SAMPLES, 2, {})


def test_other_networks_have_nothing_in_common(projects: tuple[Path, Path]) -> None:
    other = paths.GRAPHS / "digits_autoencoder"
    sides = [
        open_side(str(other / "model.onnx"), other / "calibration.npz", 2, {}),
        open_side(str(projects[1]), SAMPLES, 2, {}),
    ]
    with pytest.raises(CompileError, match="no tensor in common"):
        difference(*sides)

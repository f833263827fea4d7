"""`diff` finds the layer where two forms of a network part, whatever its names and layout."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from typer.testing import CliRunner

import tinsmith
from tinsmith import paths
from tinsmith.cli import app
from tinsmith.commands.console import print_json
from tinsmith.commands.diff import _row
from tinsmith.errors import CompileError
from tinsmith.frontend.onnx_import import import_model
from tinsmith.numerics.difference import _orders, difference
from tinsmith.numerics.match import Pair
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


def test_figures_are_those_of_numpy(projects: tuple[Path, Path]) -> None:
    sides = _sides(MODEL, projects[1], 2)
    result = difference(*sides)
    runs = [[dict(zip((n.name for n, _ in made), (o for _, o in made), strict=True))
             for made in (list(side.layers(i)) for i in range(2))] for side in sides]  # fmt: skip
    node = result.layers[0].node
    type_ = next(n.y for n in sides[1].graph.nodes if n.name == node)
    exact = np.stack([run[node.removesuffix(".q")][0] for run in runs[0]]).astype(np.float64)
    codes = np.stack([run[node][0] for run in runs[1]]).astype(np.float64)
    got = ((codes - type_.zero_point) * type_.scale).transpose(0, 1, 4, 2, 3)
    noise = ((got - exact) ** 2).sum()
    assert result.layers[0].sqnr_db == pytest.approx(10 * np.log10((exact**2).sum() / noise), 1e-5)
    assert result.layers[0].max_error == pytest.approx(np.abs(got - exact).max(), 1e-5)
    assert result.layers[0].mean_error == pytest.approx(np.abs(got - exact).mean(), 1e-5)


def _compared(a: np.ndarray, b: np.ndarray):
    graph = import_model(MODEL)
    node = graph.nodes[0]
    pair = Pair(node.outputs[0], node.outputs[0], node, by_name=True)
    return a, b, _orders(pair, a, b)


def test_axes_where_two_orders_fit() -> None:
    rng = np.random.default_rng(5)
    first = rng.standard_normal((1, 4, 4, 4))
    last = first.transpose(0, 2, 3, 1)
    for b, order in ((last + 0.1, (0, 3, 1, 2)), (first + 0.1, (0, 1, 2, 3))):
        orders = _compared(first, b)[2]
        assert len(orders) == 3
        for layer in orders:  # a sample of zeros first: it must not decide
            layer.add(np.zeros_like(first), np.zeros_like(b).transpose(layer.axes), 0)
            layer.add(first, b.transpose(layer.axes), 1)
        assert max(orders, key=lambda x: x.sqnr_db).axes == order
    assert _compared(first, np.zeros((1, 4, 4, 5)))[2] == []
    assert _compared(first, np.zeros((4, 16)))[2] == []


def test_what_is_not_finite_is_a_difference(capsys: pytest.CaptureFixture[str]) -> None:
    a = np.array([[1.0, np.inf, np.nan, 2.0]])
    *_, (layer,) = _compared(a, a)
    layer.add(a, a, 0)
    assert layer.differing == 0
    assert math.isinf(layer.sqnr_db)
    layer.add(a, np.array([[1.0, np.inf, 0.0, np.nan]]), 1)
    assert layer.differing == 2
    assert layer.sqnr_db == -math.inf
    assert layer.first == (1, (0, 2))
    print_json(_row(layer))
    assert json.loads(capsys.readouterr().out)["max_error"] is None


def test_codes_are_not_fed_to_a_float_model(projects: tuple[Path, Path], tmp_path: Path) -> None:
    """int8 data is the quantised side's own; a float model would read it as pixels from -128."""
    codes = np.random.default_rng(1).integers(-128, 128, (2, 1, 16, 16)).astype(np.int8)
    np.savez(tmp_path / "codes.npz", x=codes)
    sides = [open_side(str(s), tmp_path / "codes.npz", 2, {}) for s in (MODEL, projects[1])]
    with pytest.raises(CompileError, match="input 0 is -127 to 127"):
        difference(*sides)


def test_only_what_computes_is_listed_as_missing(tmp_path: Path) -> None:
    """A QDQ model is full of nodes that change formats and weights; none of them is a layer."""
    path = tmp_path / "qdq.onnx"
    argv = ["quantize", str(MODEL), "--calibrate", str(SAMPLES), "-o", str(path)]
    done = CliRunner().invoke(app, argv)
    assert done.exit_code == 0, done.output
    result = difference(*_sides(MODEL, path))
    assert len(result.layers) >= 10
    assert not [n for n, _ in result.unmatched if "quant" in n.lower() or "/q" in n.lower()]
    ops = {n.name: n.op.name for n in import_model(path).nodes}
    assert {ops[n] for n, _ in result.unmatched}.isdisjoint({"quantize", "dequantize", "transpose"})


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

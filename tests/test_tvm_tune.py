"""`tinsmith tune`: every tile has the same bits; measured through TVM's RPC tracker on loopback."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from tinsmith import paths
from tinsmith.cli import app
from tinsmith.errors import BadInput, MissingTool
from tinsmith.ir.dtypes import DType
from tinsmith.machine.board import load_board
from tinsmith.machine.tuned import Tuned, TunedLayer, read_tuned, with_tiles, write_tuned
from tinsmith.ops import registry

pytest.importorskip("tvm", reason="needs the tvm extra")

from tinsmith.tvm_backend.devices import Tracker, local_tracker, session
from tinsmith.tvm_backend.tune import layers, tune_layer

from .cases import case_graph, case_inputs, cases_of
from .host_c import FLOAT_TOLERANCE
from .tvm_projects import assert_exact, compile_for, require
from .tvm_rules import Use, compiled, evaluated, native_isas

TARGET = "x86_64-avx2"
BOARD = "linux-x86_64"
MODEL = paths.GRAPHS / "digits_autoencoder"


@pytest.mark.parametrize("dtype", [DType.INT8, DType.FLOAT32])
def test_every_tile_computes_the_same(dtype: DType) -> None:
    op = registry()["conv2d"]
    graph = case_graph(op, next(c for c in cases_of(op, dtype) if c.name == "wide"), dtype)
    isa = next(iter(native_isas().values()))
    (layer,) = layers(graph, isa)
    tiles = layer.rule.tiles(layer.site(isa, (0, 0)))
    assert len(set(tiles)) == len(tiles) > 4
    some = [*tiles[:4], *tiles[-2:]]
    functions = compiled([Use(layer.rule, layer.site(isa, tile)) for tile in some])
    known = evaluated(graph, case_inputs(graph, 2))
    for index in range(len(some)):
        for _, got, want in functions.call(index, known):
            tolerance = FLOAT_TOLERANCE if dtype is DType.FLOAT32 else {"rtol": 0, "atol": 0}
            np.testing.assert_allclose(got, want, **tolerance)


def test_a_tile_that_does_not_fit_is_not_taken() -> None:
    op = registry()["conv2d"]
    graph = case_graph(op, next(c for c in cases_of(op) if c.name == "wide"))
    isa = next(iter(native_isas().values()))
    (layer,) = layers(graph, isa)
    wrong, right = layer.site(isa, (999, 999)), replace(layer.site(isa, (1, 1)), isa=isa)
    for name, constant in layer.rule.constants(wrong).items():
        np.testing.assert_array_equal(constant.array, layer.rule.constants(right)[name].array)


@pytest.mark.slow
def test_tune_measures_on_loopback_and_compile_takes_what_it_found(tmp_path: Path) -> None:
    require(TARGET)
    found = tmp_path / "tuned.json"
    arguments = [str(MODEL / "model.onnx"), "--calibrate", str(MODEL / "calibration.npz")]
    arguments += ["--board", BOARD, "--cpu", TARGET, "--trials", "2", "-o", str(found)]
    result = CliRunner().invoke(app, ["tune", *arguments, "--json"])
    assert result.exit_code == 0, result.output
    measured = msgspec.convert(json.loads(result.stdout), list[TunedLayer])
    assert measured
    assert all(0 < t.us <= t.default_us for t in measured)
    assert all(t in measured for t in read_tuned(found).layers)
    # Whatever was faster here: from now on every layer has another tile than by default.
    swapped = [
        msgspec.structs.replace(t, pixels=t.default_pixels, vectors=max(1, t.default_vectors // 2))
        for t in measured
    ]
    write_tuned(found, Tuned(TARGET, tuple(swapped)))
    plain = compile_for("digits_autoencoder", TARGET, tmp_path / "plain")
    tuned = compile_for("digits_autoencoder", TARGET, tmp_path / "tuned", tuned=found)
    objects = [next(Path(p.folder).glob("*_kernels.o")).read_bytes() for p in (plain, tuned)]
    assert objects[0] != objects[1]
    assert_exact(tmp_path / "tuned")


def test_a_device_of_a_farm(tmp_path: Path) -> None:
    """With the address of a tracker and a key; a key that no device has is told."""
    op = registry()["conv2d"]
    graph = case_graph(op, next(c for c in cases_of(op) if c.name == "wide"))
    board = load_board(BOARD, next(iter(native_isas())))
    assert board.target.tvm is not None
    (layer,) = layers(graph, board.target.tvm)
    with local_tracker() as tracker, session(tracker) as remote:
        tuned = tune_layer(layer, board.target, remote, 3)
        assert 0 < tuned.us <= tuned.default_us < 1e5
    path = tmp_path / "f.json"
    write_tuned(path, Tuned(board.target.name, (tuned,)))
    tiled = with_tiles(board, read_tuned(path)).target.tvm
    assert tiled is not None
    assert tiled.tile(layer.name) == (tuned.pixels, tuned.vectors)


def test_without_a_tracker_the_command_that_starts_one_is_told() -> None:
    with (
        pytest.raises(MissingTool, match="no tracker answers") as caught,
        session(Tracker("127.0.0.1", 9, "phones")),
    ):
        pass
    assert "tvm.exec.rpc_server" in (caught.value.expected or "")
    with pytest.raises(BadInput, match="no address"):
        Tracker.parse("somewhere", "phones")


def test_tiles_of_another_target_are_refused(tmp_path: Path) -> None:
    board = load_board(BOARD, TARGET)
    with pytest.raises(BadInput, match="measured for aarch64"):
        with_tiles(board, Tuned("aarch64", ()))
    with pytest.raises(BadInput, match="no file"):
        read_tuned(tmp_path / "missing.json")
    (tmp_path / "bad.json").write_text('{"target": 3}')
    with pytest.raises(BadInput, match=r"bad\.json"):
        read_tuned(tmp_path / "bad.json")


def test_boards_on_which_nothing_can_be_measured(tmp_path: Path) -> None:
    path = str(tmp_path / "f.json")
    model = str(MODEL / "model.onnx")
    result = CliRunner().invoke(app, ["tune", model, "--board", "host", "-o", path])
    assert result.exit_code == 2
    assert "nothing can be measured" in result.output
    foreign = ["--board", "linux-aarch64", "-o", path]
    result = CliRunner().invoke(
        app,
        ["tune", model, "--calibrate", str(MODEL / "calibration.npz"), *foreign],
    )
    assert result.exit_code == 2
    assert "--tracker" in result.output

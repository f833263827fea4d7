"""`tune` for boards in QEMU, and kernels named in a file: what is compiled is what was said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from tinsmith import paths
from tinsmith.cli import app
from tinsmith.errors import BadInput
from tinsmith.kernels.costs import kernels_digest
from tinsmith.machine.board import load_board
from tinsmith.machine.costs import Cost
from tinsmith.machine.measured import Measured, read_measured, with_measured, write_measured
from tinsmith.toolchain.tuned import compiler_version, known_measurements, with_tuned

MODEL = paths.GRAPHS / "digits_dscnn"
BOARD = "mps2-an386"


def tinsmith(*arguments: str) -> str:
    named = [str(MODEL / "model.onnx"), "--calibrate", str(MODEL / "calibration.npz")]
    command, *others = arguments
    result = CliRunner().invoke(app, [command, *named, "--board", BOARD, *others])
    assert result.exit_code == 0, result.output
    return result.stdout


def kernels(*arguments: str) -> dict[str, str]:
    rows = json.loads(tinsmith("analyze", "--json", *arguments))["nodes"]
    return {row["name"]: row["kernel"] for row in rows}


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    path = tmp_path_factory.mktemp("tuned") / "tuned.json"
    return path, json.loads(tinsmith("tune", "--within", "300", "-o", str(path), "--json"))


def test_what_is_known_is_not_measured_again(tuned: tuple[Path, dict[str, Any]]) -> None:
    path, first = tuned
    assert first["measured"] > 4
    before = path.read_bytes()
    again = json.loads(tinsmith("tune", "--within", "300", "-o", str(path), "--json"))
    assert again["measured"] == 0
    assert path.read_bytes() == before
    assert {n: [r["measured"] for r in rows] for n, rows in again["layers"].items()} == {
        n: [r["measured"] for r in rows] for n, rows in first["layers"].items()
    }


def test_compile_takes_what_was_measured(
    tuned: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    path, found = tuned
    chosen = kernels("--tuned", str(path))
    for node, rows in found["layers"].items():
        assert chosen[node] == min(rows, key=lambda r: r["measured"])["kernel"]
    slow = next(iter(found["layers"]))
    data = read_measured(path)
    worst = max(found["layers"][slow], key=lambda r: r["measured"])["kernel"]
    layers = tuple(
        msgspec.structs.replace(m, cost=Cost(1.0, 1.0, 1)) if m.kernel == worst else m
        for m in data.measured
    )
    write_measured(tmp_path / "f.json", msgspec.structs.replace(data, measured=layers))
    assert kernels("--tuned", str(tmp_path / "f.json"))[slow] == worst


def test_measurements_of_something_else_are_refused(tmp_path: Path) -> None:
    board, path = load_board(BOARD), tmp_path / "f.json"
    version, digest = compiler_version(board), kernels_digest()
    now = Measured("cortex-m4", version, digest, ())
    assert known_measurements(board, path) == now
    for change in ({"target": "cortex-m7"}, {"compiler": "gcc 1"}, {"kernels": "other"}):
        stale = msgspec.structs.replace(now, **change)
        with pytest.raises(BadInput, match="measured with another"):
            with_measured(board, stale, version, digest)
        write_measured(path, stale)
        assert known_measurements(board, path) == now  # measured anew
        with pytest.raises(BadInput, match="measured with another"):
            with_tuned(board, path)
    path.write_text("{}")
    with pytest.raises(BadInput, match=r"f\.json"):
        with_tuned(board, path)


def test_choices_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "kernels.toml"
    before = kernels("--write-kernels", str(path))
    text = path.read_text()
    assert kernels("--kernels", str(path)) == before
    node, kernel, other = next(
        (node, name, line.split("# or ")[1].split(",")[0].strip())
        for line in text.splitlines()
        if "# or " in line
        for node, name in before.items()
        if line.startswith(json.dumps(node))
    )
    path.write_text(f"[kernels]\n{json.dumps(node)} = {json.dumps(other)}\n")
    assert kernels("--kernels", str(path)) == before | {node: other}
    assert kernels("--kernels", str(path), "--optimize", "flash")[node] == other
    assert other in kernels("--kernels", str(path), "--optimize", "ram").values()  # maybe of rows
    out = tmp_path / "project"
    report = json.loads(tinsmith("compile", "--kernels", str(path), "-o", str(out), "--json"))
    assert {n["name"]: n["kernel"] for n in report["nodes"]}[node] == other != kernel


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[kernels]\nnothing = 'conv2d_s8'\n", "no node 'nothing' runs a kernel"),
        ("[kernels]\n@ = 'fast_s8'\n", "kernel fast_s8 cannot compute this node"),
        ("[layers]\n", "[kernels]"),
        ("[kernels\n", "[kernels]"),
    ],
)
def test_choices_that_cannot_be_made(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "kernels.toml"
    node = next(name for name, kernel in kernels().items() if kernel)
    path.write_text(text.replace("@", json.dumps(node)))
    arguments = [str(MODEL / "model.onnx"), "--calibrate", str(MODEL / "calibration.npz")]
    arguments += ["--board", BOARD, "--kernels", str(path)]
    result = CliRunner().invoke(app, ["analyze", *arguments])
    assert result.exit_code == 2
    assert words in result.output
    assert "expected" in result.output
    assert "hint" in result.output

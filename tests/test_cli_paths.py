"""Folders and files as users name them: relative to where they stand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .test_cli_compile import CALIBRATION, MODEL, call


@pytest.mark.parametrize("board", ["host", "mps2-an500", "nucleo-l4r5zi"])
def test_relative_folder(board: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model, samples = os.path.relpath(MODEL), os.path.relpath(CALIBRATION)
    call("compile", model, "--board", board, "--calibrate", samples, "-o", "out")
    assert "bit-exact" in call("verify", "out").stdout
    call("run", "out", "--input", samples, "--output", "answers.npz")
    assert Path("answers.npz").is_file()


def test_a_folder_can_be_used_again(tmp_path: Path) -> None:
    """Nothing of the model, and no result, of an earlier compile stays in the folder."""
    argv = ("compile", MODEL, "--calibrate", CALIBRATION, "-o", tmp_path)
    call(*argv, "--board", "nucleo-l4r5zi", "--name", "Net 1")
    (tmp_path / "notes.txt").write_text("mine")
    call(*argv, "--board", "mps2-an500", "--name", "net2")
    files = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert not [name for name in files if "net_1" in name or "twin" in name]
    assert {"net2.c", "net2.h", "net2_weights.c", "report.json", "notes.txt"} <= files


def test_a_failed_compile_leaves_no_report_of_an_earlier_one(tmp_path: Path) -> None:
    argv = ("compile", MODEL, "--calibrate", CALIBRATION, "-o", tmp_path, "--board", "mps2-an500")
    call(*argv)
    call(*argv, "--flash", "4000", exit_code=2)
    assert "not a compiled project" in call("verify", tmp_path, exit_code=2).stderr


def test_the_same_bytes_whatever_the_folder_and_the_hash_seed(tmp_path: Path) -> None:
    found: list[dict[Path, bytes]] = []
    for seed in ("1", "2"):
        folder = tmp_path / seed
        argv = ["compile", MODEL, "--calibrate", CALIBRATION, "--board", "mps3-an547", "-o", folder]
        environment = os.environ | {"PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-m", "tinsmith", *argv], env=environment, check=True)
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        found.append({path.relative_to(folder): path.read_bytes() for path in files})
    assert found[0].keys() == found[1].keys() >= {Path("report.json"), Path("build/firmware.elf")}
    assert [name for name in found[0] if found[0][name] != found[1][name]] == []

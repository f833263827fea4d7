"""Folders and files as users name them: relative to where they stand."""

from __future__ import annotations

import os
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

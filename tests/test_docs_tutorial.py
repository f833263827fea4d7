"""The tutorial works: every command of `docs/tutorial.md`, with the output that it shows."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

from .console_pages import DOCS, differs, execute, follow, steps

ROOT = DOCS.parent
# The exporter of torch is in a package of its own.
TORCH = all(importlib.util.find_spec(name) for name in ("torch", "onnxscript"))


def test_every_command_does_what_the_page_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the model that comes with tinsmith, which needs no torch."""
    shutil.copytree(ROOT / "graphs" / "digits_dscnn", tmp_path / "graphs" / "digits_dscnn")
    commands = follow("tutorial.md", tmp_path, monkeypatch, skip=frozenset({"model.py"}))
    assert commands >= 19
    made = tmp_path / "out" / "tutorial"
    assert (made / "digits" / "report.html").is_file()
    assert (made / "learner" / "trained.delta").is_file()


@pytest.mark.skipif(not TORCH, reason="trains a network: needs torch and onnxscript")
def test_the_model_that_the_page_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    script = next(step.text for step in steps("tutorial.md") if step.name == "model.py")
    Path("model.py").write_text(script, encoding="utf-8")
    for command in (
        "python model.py",
        "tinsmith check model.onnx",
        "tinsmith quantize model.onnx --calibrate calibration.npz -o model_int8.onnx",
        "tinsmith compile model_int8.onnx --board mps2-an500 -o digits",
        "tinsmith verify digits --input samples.npz",
    ):
        code, printed = execute(command)
        assert code == 0, printed
    assert "450 samples: bit-exact" in printed


def test_what_is_shown_is_really_compared() -> None:
    printed = "flash  10,000\n┃ RAM │ 5,000 ┃\n\ndone in 3 steps\n"
    assert not differs(["flash ~9,000", "RAM 5,000", "done …"], printed)
    assert not differs(["flash 10,000", "…"], printed)
    assert not differs([], printed)
    assert "RAM 5,001" in differs(["flash ~9,000", "RAM 5,001", "…"], printed)
    assert differs(["flash ~7,000", "…"], printed), "more than a quarter off"
    assert differs(["RAM 5,000", "…"], printed), "a line above was not shown"
    assert differs(["flash 10,000"], printed), "nor are those below"
    assert differs(["…", "RAM 5,000", "flash 10,000", "…"], printed), "out of order"

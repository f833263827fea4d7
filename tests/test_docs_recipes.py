"""`docs/add-a-pass.md`, `-board`, `-target` work: followed to the letter in a copy of the sources.

`docs/add-an-operator.md` has a test of its own.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from .console_pages import DOCS, follow

ROOT = DOCS.parent
SOURCES = ("compiler", "runtime_c", "targets", "boards", "graphs", "tests")


@pytest.mark.parametrize("page", ["add-a-pass.md", "add-a-board.md", "add-a-target.md"])
def test_the_recipe_works_to_the_letter(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in SOURCES:
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "_data")
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "compiler"))
    assert follow(page, tmp_path, monkeypatch, fresh=True) >= 3

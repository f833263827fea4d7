"""`docs/add-an-operator.md` works: its files, put where it says, pass the operator tests."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^`([\w/.]+)`\n\n```\w+\n(.*?)^```", re.MULTILINE | re.DOTALL)
TESTS = ("test_operators.py", "test_c_operators.py", "test_completeness.py")


def test_the_recipe_works_to_the_letter(tmp_path: Path) -> None:
    for folder in ("compiler", "runtime_c", "targets", "boards", "tests"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "_data")
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    blocks = BLOCK.findall((ROOT / "docs" / "add-an-operator.md").read_text())
    assert len(blocks) == 3
    for name, text in blocks:
        assert not (tmp_path / name).exists()
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-k", "reduce_max", *(f"tests/{t}" for t in TESTS)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "compiler")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert int(re.findall(r"(\d+) passed", done.stdout)[-1]) >= 15

"""Runs compilers and emulators; says how to install one that is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ..errors import MissingTool


def find_program(name: str, packages: Sequence[str], needed_for: str) -> str:
    """Path of a program. Raises MissingTool with the command that installs it."""
    found = shutil.which(name)
    if found is None:
        install = f"sudo apt-get install {' '.join(packages)}" if packages else f"install {name}"
        raise MissingTool(f"{name} is not installed; {needed_for} needs it", hint=install)
    return found


def run_program(argv: Sequence[str | Path], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run to the end in `folder`; its output is text, in English. The caller checks the status."""
    return subprocess.run(
        argv,
        cwd=folder,
        env=os.environ | {"LC_ALL": "C"},
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )


def tail(text: str, lines: int = 20) -> str:
    """The last lines of a program's output."""
    return "\n".join(text.rstrip().splitlines()[-lines:])

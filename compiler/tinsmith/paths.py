"""Where the data folders are: the source tree in a checkout, inside the package in a wheel."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_INSTALLED = _PACKAGE / "_data"
_ROOT = _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent.parent

RUNTIME_C = _ROOT / "runtime_c"
TARGETS = _ROOT / "targets"
BOARDS = _ROOT / "boards"
GRAPHS = _ROOT / "graphs"
LICENCE = _ROOT / "LICENSE"
OP_TEMPLATES = _PACKAGE / "ops"
CODEGEN_TEMPLATES = _PACKAGE / "codegen" / "templates"

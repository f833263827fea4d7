"""Who may import whom: lower layers never import higher ones (docs/architecture.md)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import tinsmith

PACKAGE = Path(tinsmith.__file__).resolve().parent

# Each row may import itself and the rows above it.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "paths", "figures", "_build_data"),
    ("machine", "ir"),
    ("quant",),
    ("ops",),
    ("pass_manager",),
    ("train",),
    ("frontend", "passes"),
    ("kernels",),
    ("tvm_backend",),
    ("plan",),
    ("codegen",),
    ("lowering",),
    ("train_plan", "recover_accuracy"),
    ("toolchain",),
    ("trust",),
    ("attack",),
    ("serial_link",),
    ("runner",),
    ("numerics",),
    ("packages",),
    ("report_page",),
    ("pipeline",),
    ("project_file",),
    ("lab",),
    ("peers",),
    ("commands",),
    ("cli",),
    ("__main__",),
)
RANK = {name: rank for rank, row in enumerate(LAYERS) for name in row}
FILES = sorted(PACKAGE.rglob("*.py"))


def _component(module: Path) -> str:
    """The layer's name of a file: its top folder or stem; "" for the package itself."""
    parts = module.relative_to(PACKAGE).with_suffix("").parts
    return "" if parts == ("__init__",) else parts[0]


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, component) of every import of tinsmith in a file, also inside functions."""
    package = ("tinsmith", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [tuple(a.name.split(".")) for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            stem = (*base, *(node.module.split(".") if node.module else ()))
            names = [(*stem, a.name) for a in node.names] if len(stem) == 1 else [stem]
        else:
            continue
        for name in names:
            if name[0] == "tinsmith" and len(name) > 1:
                yield node.lineno, name[1]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_layers(path: Path) -> None:
    component = _component(path)
    if component in ("", "__main__"):
        return  # the public API may import everything
    assert component in RANK, f"{component} has no place in LAYERS"
    for line, name in _imports(path):
        if name in ("__version__",):
            continue
        assert name in RANK, f"line {line} imports {name}, which has no place in LAYERS"
        assert RANK[name] <= RANK[component], f"line {line}: {component} imports {name}"


def test_the_scan_sees_imports() -> None:
    """The scanner itself: relative, absolute and nested imports are found."""
    found = {name for path in FILES for _, name in _imports(path)}
    assert {"ir", "errors", "paths", "kernels", "plan"} <= found


def test_ir_never_imports_operators() -> None:
    for path in FILES:
        if _component(path) == "ir":
            assert "ops" not in {name for _, name in _imports(path)}, path

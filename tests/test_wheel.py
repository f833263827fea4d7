"""A wheel built from the tree, installed in an empty environment, compiles for every board."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tinsmith import paths

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("compiler", "runtime_c", "targets", "boards", "graphs", "pyproject.toml", "README.md")
COMPILE_FOR_EVERY_BOARD = """
import json, sys
import tinsmith
from pathlib import Path
from tinsmith import paths
from tinsmith.errors import MissingTool
from tinsmith.machine.board import board_names

model = paths.GRAPHS / "digits_dscnn"
flash, missing = {}, []
for board in board_names():
    folder = Path(sys.argv[1]) / board
    try:
        tinsmith.compile(
            model / "model.onnx", board=board, out=folder, calibrate=model / "calibration.npz"
        )
    except MissingTool:
        missing.append(board)
        continue
    flash[board] = json.loads((folder / "report.json").read_text())["flash_bytes"]
facts = {"package": tinsmith.__file__, "data": str(paths.BOARDS)}
print(json.dumps({**facts, "flash": flash, "missing": missing}))
"""
# What no package manager of a machine brings along: the NDK, and a compiler for GPUs.
MAY_BE_MISSING = ("android-", "cuda-")


def _run(*argv: object, cwd: Path) -> str:
    done = subprocess.run(
        [str(a) for a in argv], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{argv}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the tree, so that nothing of an earlier build slips in."""
    folder = tmp_path_factory.mktemp("wheel")
    tree = folder / "tree"
    tree.mkdir()
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in (*SOURCES, "LICENSE"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=ignored)
        else:
            shutil.copy(source, tree / name)
    pip = (sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation")
    _run(*pip, "-w", folder, tree, cwd=folder)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel; its dependencies are borrowed from the one of the tests."""
    folder = tmp_path_factory.mktemp("environment")
    _run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    python = folder / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-index")
    _run(*pip, "--no-deps", wheel, cwd=folder)
    purelib = _run(
        python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder
    )
    # A folder named in a .pth file does not have its own .pth files read: the editable install of
    # this tree stays out.
    borrowed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    Path(purelib.strip(), "borrowed.pth").write_text("\n".join(sorted(borrowed)) + "\n")
    return folder


def test_wheel_holds_every_data_file(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    wanted = {"tinsmith/py.typed"}
    for folder in (paths.RUNTIME_C, paths.TARGETS, paths.BOARDS, paths.GRAPHS):
        for path in folder.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                wanted.add(f"tinsmith/_data/{path.relative_to(ROOT)}")
    for template in (ROOT / "compiler" / "tinsmith").rglob("*.j2"):
        wanted.add(str(template.relative_to(ROOT / "compiler")))
    assert not wanted - held


@pytest.mark.slow
def test_installed_wheel_compiles_for_every_board(environment: Path, tmp_path: Path) -> None:
    tool = environment / "bin" / "tinsmith"
    boards = {b["name"] for b in json.loads(_run(tool, "boards", "--json", cwd=tmp_path))}
    python = environment / "bin" / "python"
    result = json.loads(
        _run(python, "-c", COMPILE_FOR_EVERY_BOARD, tmp_path, cwd=tmp_path).splitlines()[-1]
    )
    assert Path(result["package"]).is_relative_to(environment)
    assert Path(result["data"]).is_relative_to(environment)
    assert boards == {p.name for p in paths.BOARDS.iterdir()}
    assert result["flash"].keys() == boards - set(result["missing"])
    assert all(board.startswith(MAY_BE_MISSING) for board in result["missing"])
    assert all(0 < size < 1_000_000 for size in result["flash"].values())

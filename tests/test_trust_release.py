"""What is flashed: secure images without semihosting, verified first, with what the board needs."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tinsmith import cli, paths
from tinsmith.codegen.report import read_report
from tinsmith.machine.trust_zone import load_trust_zone
from tinsmith.runner.compare import verify
from tinsmith.trust import keys
from tinsmith.trust.manifest import FILE, NONSECURE_IMAGE, SECURE_IMAGE
from tinsmith.trust.project import Protection, protect_project

from .own_models import compile_own

SOURCE = paths.GRAPHS / "digits_dscnn"
EMULATED, PHYSICAL = "mps2-an505", "nucleo-u575zi"
Made = Callable[[str, bool], Path]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The pair of a board and a device: as compiled, or protected with --release."""
    root = tmp_path_factory.mktemp("release")
    keys.new_secret(root / "root.key")

    @cache
    def get(board: str, release: bool) -> Path:
        if not release:
            trust = Protection("withhold")
            return compile_own("digits_dscnn", root / board, board, trust=trust).folder
        out = root / f"{board}-release"
        plain, secret = get(board, False), root / "root.key"
        protect_project(plain, out, secret=secret, device="d", release=True, pictures=False)
        return out

    return get


def call(*argv: object) -> tuple[int, str]:
    result = CliRunner().invoke(cli.app, [str(a) for a in argv])
    return result.exit_code, result.stdout + result.stderr


def code_of(elf: Path) -> str:
    done = subprocess.run(
        ["arm-none-eabi-objdump", "-d", elf], capture_output=True, text=True, check=True
    )
    assert "ts_give_up" in done.stdout
    return done.stdout


@pytest.mark.parametrize(
    ("board", "release"), [(EMULATED, True), (PHYSICAL, False), (PHYSICAL, True)]
)
def test_a_release_image_has_no_breakpoint(made: Made, board: str, release: bool) -> None:
    """Semihosting is a breakpoint (BKPT 0xAB); nor is there any other."""
    folder = made(board, release)
    code = code_of(folder / SECURE_IMAGE)
    assert "bkpt" not in code
    assert "ts_debug_end" not in code
    trust = read_report(folder).trust
    assert trust is not None
    assert trust.release
    if board == EMULATED:
        assert verify(folder).ok


def test_a_development_image_has_one(made: Made) -> None:
    """So the search finds what it looks for."""
    code = code_of(made(EMULATED, False) / SECURE_IMAGE)
    assert "bkpt" in code
    assert "ts_debug_end" in code
    status, text = call("images", made(EMULATED, False))
    assert status == 0
    assert "`protect --release`" in text


def test_it_is_said_what_the_board_needs(made: Made, tmp_path: Path) -> None:
    """By `compile` and `protect`, in both reports, and before it is flashed."""
    needs = load_trust_zone(PHYSICAL).requires
    assert len(needs) == 3
    folder = made(PHYSICAL, True)
    assert json.loads((folder / "report.json").read_text())["trust"]["requires"] == needs
    compiled = call(
        "compile", SOURCE / "model.onnx", "--board", PHYSICAL, "--calibrate",
        SOURCE / "calibration.npz", "--trust", "withhold", "-o", tmp_path / "compiled",
    )  # fmt: skip
    keys.new_secret(tmp_path / "root.key")
    protected = call(
        "protect", folder, "--secret", tmp_path / "root.key", "--device", "d", "-o",
        tmp_path / "protected",
    )  # fmt: skip
    said = [compiled[1], protected[1], call("images", folder)[1]]
    said.append((folder / "report.txt").read_text())
    for text in said:
        joined = " ".join(text.split())
        assert all(f"the board needs {need}" in joined for need in needs), text


@pytest.mark.parametrize("file", [NONSECURE_IMAGE, SECURE_IMAGE, FILE])
def test_nothing_uses_a_pair_that_was_changed(made: Made, file: str, tmp_path: Path) -> None:
    """Neither image, nor the manifest: before flashing, running, measuring, binding."""
    folder = tmp_path / "changed"
    shutil.copytree(made(EMULATED, True), folder)
    x, image = tmp_path / "x.npz", tmp_path / "app.elf"
    np.savez(x, x=np.load(SOURCE / "samples.npz")["x"][:1])
    shutil.copy(folder / NONSECURE_IMAGE, image)
    commands = [
        ("images", folder),
        ("verify", folder),
        ("run", folder, "--input", x),
        ("bench", folder),
        ("seal", folder, "--image", image),
    ]
    assert call("images", folder)[0] == 0
    data = bytearray((folder / file).read_bytes())
    place = data.index(b'"device": "d"') + 11 if file == FILE else len(data) // 4
    data[place] ^= 1
    (folder / file).write_bytes(data)
    for argv in commands:
        status, text = call(*argv)
        assert status == 1, argv
        assert "is not the image of the manifest" in text or "was changed after" in text, argv

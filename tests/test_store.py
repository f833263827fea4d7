"""The power-loss-safe store, in C: power is cut at every operation, on the host and in QEMU."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from tinsmith import paths
from tinsmith.machine.board import Board, load_board
from tinsmith.runner.execute import command
from tinsmith.toolchain.compile_c import build, firmware
from tinsmith.toolchain.harness import harness_files

from .host_c import DRIVER, SANITIZE, WARNINGS

HARNESS = paths.RUNTIME_C / "harness"
NAMES = (
    "failed_line", "scenarios", "old_blocks", "new_blocks", "empty", "flips", "lies_noticed",
)  # fmt: skip
# Program unit, sector and block in bytes; commits in a row; whether the next commit is cut, too.
SMALL = "{4, 64, 40, 3, 1}"
CONFIGS = {
    "bytes": "{1, 64, 3, 1, 1}",
    "words": SMALL,
    "double words": "{8, 128, 104, 4, 1}, {8, 256, 1, 3, 1}",
    "quad words": "{16, 128, 129, 3, 1}",
    "a whole page": "{256, 4096, 300, 4, 1}",
    "a large block": "{32, 1024, 1500, 2, 0}",
}


def _counts(folder: Path) -> dict[str, int]:
    data = (folder / "outputs.bin").read_bytes()
    found = dict(zip(NAMES, struct.unpack("<7I", data), strict=True))
    assert found["failed_line"] == 0, f"store_test.c line {found['failed_line']}: {found}"
    return found


def _build_on_host(folder: Path, configs: str) -> Path:
    sources = [paths.RUNTIME_C / "src" / "ts_store.c", HARNESS / "nor_flash.c"]
    sources += [HARNESS / "host" / "host.c", DRIVER / "store_test.c"]
    includes = [paths.RUNTIME_C / "include", HARNESS]
    argv = ["gcc", "-std=c11", "-O1", *WARNINGS, *SANITIZE, f"-DCONFIGS={configs}"]
    argv += [f"-I{i}" for i in includes]
    subprocess.run([*argv, *sources, "-o", folder / "store_test"], check=True)
    return folder / "store_test"


@pytest.mark.parametrize("configs", CONFIGS.values(), ids=CONFIGS.keys())
def test_every_power_cut_leaves_the_old_block_or_the_new_one(tmp_path: Path, configs: str) -> None:
    subprocess.run([_build_on_host(tmp_path, configs)], cwd=tmp_path, check=True)
    counts = _counts(tmp_path)
    assert counts["scenarios"] > 500
    assert min(counts["old_blocks"], counts["new_blocks"], counts["empty"]) > 10
    assert counts["flips"] > 8 * 56  # at the least every bit of the header
    assert counts["lies_noticed"] > 5


@pytest.mark.parametrize("name", ["mps2-an500", "qemu-riscv32"])
def test_the_same_on_a_device(tmp_path: Path, name: str) -> None:
    board = load_board(name)
    elf = _build_firmware(tmp_path, board)
    done = subprocess.run(command(elf, board), cwd=tmp_path, timeout=300, check=False)
    assert done.returncode == 0
    assert _counts(tmp_path)["scenarios"] > 100


def _build_firmware(folder: Path, board: Board) -> Path:
    files = dict(harness_files(board, []))
    for name in ("main.c", "trace.c", "model_binding.c"):
        del files[name]
    for name in ("nor_flash.c", "nor_flash.h"):
        files[name] = (HARNESS / name).read_text()
    (folder / "harness").mkdir()
    for name, text in files.items():
        (folder / "harness" / name).write_text(text)
    shutil.copy(DRIVER / "store_test.c", folder)
    for part in ("include", "src"):
        shutil.copytree(paths.RUNTIME_C / part, folder / "runtime" / part)
    build(folder, board, extra_cflags=[f"-DCONFIGS={SMALL[:-2]}0}}"])
    return firmware(folder)

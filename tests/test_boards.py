"""Boards and targets: the data files, the rules between their keys, twins, linker scripts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from tinsmith import paths
from tinsmith.errors import CompileError
from tinsmith.machine import board as board_module
from tinsmith.machine.board import Region, board_names, emulated, load_board
from tinsmith.machine.target import load_target, target_names
from tinsmith.toolchain.harness import link_script

EMULATED = {
    "mps2-an385": "cortex-m3",
    "mps2-an385-armv6m": "cortex-m0",
    "mps2-an386": "cortex-m4",
    "mps2-an500": "cortex-m7",
    "mps2-an505": "cortex-m33",
    "mps3-an547": "cortex-m55",
    "microbit": "cortex-m0",
    "netduinoplus2": "cortex-m4",
    "qemu-riscv32": "rv32imac",
}
WITH_TVM = {"linux-x86_64", "linux-aarch64", "android-arm64"}
WITH_A_GPU = {f"cuda-sm{n}" for n in (80, 86, 89, 90)}
PHYSICAL = {
    "stm32f746g-disco": ("cortex-m7", 1024, 320, "mps2-an500"),
    "nucleo-l4r5zi": ("cortex-m4", 2048, 640, "mps2-an386"),
    "nucleo-u575zi": ("cortex-m33", 2048, 768, "mps2-an505"),
}


def test_all_boards_are_there() -> None:
    assert set(board_names()) == {"host", *EMULATED, *PHYSICAL, *WITH_TVM, *WITH_A_GPU}


@pytest.mark.parametrize("name", EMULATED)
def test_emulated_board(name: str) -> None:
    board = load_board(name)
    assert board.target.name == EMULATED[name]
    assert board.counter.kind != "none"
    assert "{elf}" in board.emulator
    assert emulated(board) is board


@pytest.mark.parametrize("name", PHYSICAL)
def test_physical_board_and_its_twin(name: str) -> None:
    target, flash, ram, twin = PHYSICAL[name]
    board = load_board(name)
    assert (board.target.name, board.twin, board.emulator) == (target, twin, ())
    assert (board.flash_bytes, board.ram_bytes) == (flash * 1024, ram * 1024)
    machine = emulated(board)
    assert machine.target == board.target
    assert (machine.flash_bytes, machine.ram_bytes) == (flash * 1024, ram * 1024)
    assert machine.region("flash").origin == load_board(twin).region("flash").origin


def test_small_boards_have_their_documented_memory() -> None:
    assert load_board("microbit").ram_bytes == 16 * 1024
    assert load_board("microbit").flash_bytes == 256 * 1024
    assert load_board("netduinoplus2").ram_bytes == 128 * 1024


@pytest.mark.parametrize("name", [*EMULATED, *PHYSICAL])
def test_linker_script_names_every_region(name: str) -> None:
    board = load_board(name)
    script = link_script(board)
    for region in board.regions:
        stack = board.stack_bytes if region.name == "ram" else 0
        origin, size = region.origin + stack, region.bytes - stack
        assert f"ORIGIN = 0x{origin:08x}, LENGTH = {size}\n" in script
    assert f"ts_stack_limit = ORIGIN(ram) - {board.stack_bytes};" in script


def test_features_say_what_the_cores_have() -> None:
    features = {name: load_target(name).features for name in target_names()}
    assert {n for n, f in features.items() if "mve" in f} == {"cortex-m55"}
    dsp = {"cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55"}
    assert {n for n, f in features.items() if "dsp" in f} == dsp
    assert "unaligned" not in features["cortex-m0"]
    assert "hwdiv" not in features["cortex-m0"]


def _board_file(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """A boards/ folder with one board `new`, and the project's own."""
    for name in board_names():
        (folder / name).mkdir(parents=True)
        (folder / name / "board.toml").write_bytes(
            (paths.BOARDS / name / "board.toml").read_bytes()
        )
    (folder / "new").mkdir()
    (folder / "new" / "board.toml").write_text(text)
    monkeypatch.setattr(paths, "BOARDS", folder)


GOOD = 'name = "new"\ndescription = "d"\ntarget = "cortex-m4"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + 'speed = "high"\n', "unknown field `speed`"),
        (GOOD.replace('"new"', '"old"'), "says its name is 'old'"),
        (GOOD + 'twin = "nowhere"\n', "twin 'nowhere' is not a board"),
        (GOOD + 'twin = "mps2-an386"\nemulator = ["x"]\n', "both an emulator and a twin"),
        (GOOD + "stack_bytes = 1001\n", "not a multiple of 8"),
        (
            GOOD + '[[regions]]\nname = "flash"\norigin = 0\nbytes = 1024\nkind = "flash"\n',
            'need "flash" and "ram"',
        ),
        (GOOD.replace("cortex-m4", "cortex-z9"), "unknown target 'cortex-z9'"),
        ("name = \n", "board.toml"),
    ],
)
def test_a_bad_board_file_is_refused(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _board_file(tmp_path / "boards", monkeypatch, text)
    with pytest.raises(CompileError) as error:
        board_module.load_board.__wrapped__("new")
    assert message in str(error.value)


def test_unknown_board_lists_the_known_ones() -> None:
    with pytest.raises(CompileError) as error:
        load_board("arduino")
    assert error.value.expected is not None
    assert "mps2-an500" in error.value.expected


def test_a_twin_may_not_be_smaller() -> None:
    board = load_board("stm32f746g-disco")
    flash, ram = board.regions
    huge = replace(board, regions=(flash, msgspec.structs.replace(ram, bytes=2**30)))
    assert isinstance(ram, Region)
    with pytest.raises(CompileError, match="larger than that of its twin"):
        emulated(huge)

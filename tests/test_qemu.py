"""Every board runs firmware in its emulator, and counts instructions right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tinsmith.errors import CompileError, InternalError, MissingTool
from tinsmith.ir.dtypes import DType, TensorType
from tinsmith.machine.board import Board, board_names, emulated, load_board
from tinsmith.runner.execute import command, run_samples
from tinsmith.runner.project import count_instructions
from tinsmith.runner.protocol import Result, Sample

from .firmware import loop_firmware

WORD = TensorType((1,), DType.INT32)
CRASH, HANG, FAIL = 0xDEAD, 0xDEAF, 0xDEB0  # see c/loop_model.c
# What surrounds the loop inside the measured section: calls, and reading the counter.
OVERHEAD = 60


def _run(elf: Path, board: Board, rounds: list[int], **options: float) -> list[Result]:
    samples = [Sample((np.array([r], np.int32),)) for r in rounds]
    return run_samples(elf, board, [[WORD]], samples, **options)


@pytest.mark.parametrize("name", [n for n in board_names() if not load_board(n).toolchain])
def test_counts_a_loop_of_known_length(name: str, tmp_path: Path) -> None:
    board = load_board(name)
    elf = loop_firmware(tmp_path, board)
    rounds = [1, 1000, 1_000_000, 1000, 50_000_000]
    results = _run(elf, board, rounds, processes=1)
    assert [int(r.outputs[0][0]) for r in results] == [r + 1 for r in rounds]
    counted = count_instructions(board, results)
    if board.is_host:
        assert counted is None
        return
    counter = emulated(board).counter
    tick = counter.instructions / counter.ticks
    for n, instructions in zip(rounds, counted, strict=True):
        drift = n * 2e-7  # of a clock whose period is no whole number of nanoseconds
        assert 2 * n - tick - drift <= instructions <= 2 * n + OVERHEAD + drift
    assert counted[1] == counted[3]
    again = count_instructions(board, _run(elf, board, rounds[:3], processes=2))
    np.testing.assert_array_equal(again, counted[:3])


def test_counts_past_the_wrap_of_a_24_bit_counter(tmp_path: Path) -> None:
    board = load_board("netduinoplus2")  # the fastest SysTick: 2^24 ticks are 100 M instructions
    rounds = 120_000_000
    (result,) = _run(loop_firmware(tmp_path, board), board, [rounds])
    assert result.ticks > 2 * 2**24
    (instructions,) = count_instructions(board, [result])
    assert instructions == pytest.approx(2 * rounds, rel=1e-6)


@pytest.mark.parametrize("name", ["mps2-an500", "mps3-an547", "microbit", "qemu-riscv32"])
def test_a_fault_is_reported_with_its_sample(name: str, tmp_path: Path) -> None:
    board = load_board(name)
    elf = loop_firmware(tmp_path, board)
    with pytest.raises(InternalError, match=r"stopped in sample 2: the processor took a fault"):
        _run(elf, board, [10, 20, CRASH], processes=1)


def test_a_firmware_that_hangs_is_ended(tmp_path: Path) -> None:
    board = load_board("mps2-an386")
    elf = loop_firmware(tmp_path, board)
    with pytest.raises(InternalError, match=r"computed nothing for 0\.5 seconds in sample 1"):
        _run(elf, board, [10, HANG], processes=1, stall_seconds=0.5)


def test_the_status_of_the_model_comes_back(tmp_path: Path) -> None:
    board = load_board("host")
    results = _run(loop_firmware(tmp_path, board), board, [1, FAIL, 2])
    assert [r.status for r in results] == [0, 5, 0]


def test_progress_reaches_the_total_and_order_is_kept(tmp_path: Path) -> None:
    board = load_board("mps2-an385")
    seen: list[tuple[int, int]] = []
    samples = [Sample((np.array([i], np.int32),)) for i in range(1, 41)]
    elf = loop_firmware(tmp_path, board)
    results = run_samples(
        elf, board, [[WORD]], samples, processes=3, progress=lambda *a: seen.append(a)
    )
    assert [int(r.outputs[0][0]) for r in results] == list(range(2, 42))
    assert seen[-1] == (40, 40)
    assert seen == sorted(seen)


def test_a_missing_emulator_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingTool) as error:
        command(tmp_path / "x.elf", load_board("nucleo-l4r5zi"))
    assert error.value.hint == "sudo apt-get install qemu-system-arm"
    assert error.value.exit_code == 3


def test_a_board_without_emulator_is_refused(tmp_path: Path) -> None:
    from dataclasses import replace

    board = replace(load_board("mps2-an500"), emulator=())
    with pytest.raises(CompileError, match="has no emulator"):
        command(tmp_path / "x.elf", board)

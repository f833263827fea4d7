"""The driver `stm32` and a board's set-up on QEMU's STM32L475: clock tree, GPIO and USART are there
since 9.1. `QEMU_SYSTEM_ARM` names another QEMU than the one on PATH."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

import tinsmith
from tinsmith import paths
from tinsmith.serial_link.port import using_port

QEMU = shutil.which(os.environ.get("QEMU_SYSTEM_ARM", "qemu-system-arm")) or ""
MACHINE = "b-l475e-iot01a"
# HSI16 → PLL → 80 MHz, 4 wait states; USART1 at PB6 and PB7. RM0351.
BOARD = """
name = "l475"
description = "STM32L475, emulated"
target = "cortex-m4"
clock_hz = 80_000_000
emulator = [
    "@QEMU@", "-M", "@MACHINE@", "-icount", "shift=0,align=off,sleep=off",
    "-nographic", "-monitor", "none", "-serial", "none",
    "-d", "guest_errors,trace:stm32l4x5_usart_update_params", "-D", "@FOLDER@/log",
    "-qmp", "unix:@FOLDER@/qmp,server,nowait", "-kernel", "{elf}",
]
setup = [
    { name = "RCC_CR: HSI16", address = 0x4002_1000, set = 0x100, until_set = 0x400 },
    { name = "FLASH_ACR", address = 0x4002_2000, clear = 0x7, set = 0x604 },
    { name = "RCC_PLLCFGR", address = 0x4002_100C, clear = 0x0600_7F73, set = 0x0100_1412 },
    { name = "RCC_CR: PLL", address = 0x4002_1000, set = 0x100_0000, until_set = 0x200_0000 },
    { name = "RCC_CFGR: the PLL", address = 0x4002_1008, set = 0x3, until_set = 0xC, pause = 100 },
    { name = "RCC_AHB2ENR: GPIOB", address = 0x4002_104C, set = 0x2 },
    { name = "GPIOB_AFRL", address = 0x4800_0420, clear = 0xFF00_0000, set = 0x7700_0000 },
    { name = "GPIOB_MODER", address = 0x4800_0400, clear = 0xF000, set = 0xA000 },
    { name = "RCC_APB2ENR: USART1", address = 0x4002_1060, set = 0x4000 },
]
regions = [
    { name = "flash", origin = 0x0800_0000, bytes = 1_048_576, kind = "flash" },
    { name = "ram", origin = 0x2000_0000, bytes = 98_304, kind = "ram" },
]
serial = { driver = "stm32", address = 0x4001_3800 }
counter = { kind = "systick" }
"""


def _has_machine() -> bool:
    if not QEMU:
        return False
    done = subprocess.run([QEMU, "-M", "help"], capture_output=True, text=True, check=False)
    return MACHINE in done.stdout


@contextmanager
def _awake(path: Path) -> Generator[None]:
    """Keeps QEMU's main loop turning: this USART does not say when it can take the next byte."""
    stop = threading.Event()

    def ask() -> None:
        while not stop.wait(0.01):
            try:
                with socket.socket(socket.AF_UNIX) as line:
                    line.connect(str(path))
                    line.recv(4096)
                    line.sendall(b'{"execute": "qmp_capabilities"}')
                    while not stop.is_set() and line.recv(4096):
                        line.sendall(b'{"execute": "query-status"}')
            except OSError:
                continue  # between two sessions there is no emulator

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield
    finally:
        stop.set()
        asking.join()


@pytest.mark.skipif(not _has_machine(), reason=f"needs a QEMU that has {MACHINE}")
def test_an_stm32_that_has_clocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    boards = tmp_path / "boards"
    shutil.copytree(paths.BOARDS, boards)
    (boards / "l475").mkdir()
    text = BOARD.replace("@QEMU@", QEMU).replace("@MACHINE@", MACHINE)
    (boards / "l475" / "board.toml").write_text(text.replace("@FOLDER@", str(tmp_path)))
    monkeypatch.setattr(paths, "BOARDS", boards)
    graph, project = paths.GRAPHS / "digits_dscnn", tmp_path / "project"
    tinsmith.compile(
        graph / "model.onnx", board="l475", calibrate=graph / "calibration.npz", out=project,
        harness="serial", pictures=False,
    )  # fmt: skip
    with _awake(tmp_path / "qmp"), using_port("qemu"):
        assert tinsmith.verify(project).ok
        assert tinsmith.verify(project).ok
    log = (tmp_path / "log").read_text()
    assert "speed: 115" in log  # of the clock tree: the PLL runs

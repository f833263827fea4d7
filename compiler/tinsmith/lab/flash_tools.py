"""pyocd and openocd: what they are called with, and what their complaints mean."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from ..errors import CompileError, MissingTool
from ..machine.board import Board, Flash
from ..toolchain.programs import tail

Tool = Literal["pyocd", "openocd"]
TOOLS: tuple[Tool, ...] = get_args(Tool)
_INSTALL = {
    "pyocd": 'pip install "tinsmith[lab]"',
    "openocd": "sudo apt-get install openocd",
}


class FlashFailed(CompileError):
    """The tool could not write to the board."""

    exit_code = 1


class NoProbe(CompileError):
    """The debug probe of the board is not there."""

    exit_code = 3


@dataclass(frozen=True)
class ProbeName:
    """Which of several probes. serial: its number, as the tool lists it. location: of its USB port,
    as Linux writes it (1-4.2), which pyocd does not take."""

    serial: str | None = None
    location: str | None = None


def flash_command(
    tool: Tool, flash: Flash, images: Sequence[str | Path], probe: ProbeName
) -> list[str]:
    """The command that writes and verifies ELF files in their order and then resets once, as
    `board.toml` says. Raises CompileError when that does not say what the tool needs."""
    return (_pyocd if tool == "pyocd" else _openocd)(flash, images, probe)


def _pyocd(flash: Flash, images: Sequence[str | Path], probe: ProbeName) -> list[str]:
    if not flash.pyocd:
        raise _unknown("pyocd")
    words = ["pyocd", "load", "--no-wait", "--target", flash.pyocd, "--format", "elf"]
    if probe.serial is not None:
        words += ["--probe", probe.serial]
    if flash.reset == "none":
        words.append("--no-reset")
    elif flash.reset == "hardware":
        words += ["-O", "load.post_reset=hardware"]
    return [*words, *map(str, images)]


def _openocd(flash: Flash, images: Sequence[str | Path], probe: ProbeName) -> list[str]:
    if not flash.openocd:
        raise _unknown("openocd")
    words = ["openocd"]
    for file in flash.openocd:
        words += ["-f", file]
    if probe.serial is not None:
        words += ["-c", f"adapter serial {probe.serial}"]
    elif probe.location is not None:
        words += ["-c", f"adapter usb location {probe.location}"]
    if flash.reset == "hardware":
        words += ["-c", "reset_config srst_only"]
    for image in images:  # each stops the core first, so nothing runs between two of them
        words += ["-c", f"program {{{image}}} verify"]
    return [*words, *([] if flash.reset == "none" else ["-c", "reset run"]), "-c", "shutdown"]


def _unknown(tool: str) -> CompileError:
    return CompileError(
        f"board.toml does not say what {tool} needs for this board",
        expected=f"the key {tool} in [flash]",
    )


def find_tool(tool: Tool) -> str:
    """Its path: on PATH, or beside the interpreter that runs tinsmith. Raises MissingTool."""
    beside = Path(sys.executable).with_name(tool)
    found = shutil.which(tool) or (str(beside) if beside.is_file() else None)
    if found is None:
        raise missing(tool)
    return found


def missing(tool: str, where: str = "") -> MissingTool:
    text = f"{tool} is not installed{where}; writing to this board needs it"
    return MissingTool(text, hint=_INSTALL[tool])


# Of pyocd 0.46 and openocd 0.12.
_NO_PROBE = re.compile(
    r"No (available|connected) debug probe|No target device available|no probe|unable to open"
    r"|open failed|No ST-?LINK|no device found|Error: init mode failed|No J-Link",
    re.IGNORECASE,
)
_NO_TARGET = re.compile(r"target type '?\S+'? not recognized|unknown target type", re.IGNORECASE)
_OTHER_CHIP = re.compile(
    r"UNEXPECTED|Cannot identify target|unknown device id|Could not find MEM-AP|wrong target"
    r"|auto_probe failed|flash bank .* invalid|memory region .*not found|No flash memory"
    r"|no flash bank found|not (in|within) (any )?flash|outside of? .*flash",
    re.IGNORECASE,
)
_BUSY = re.compile(r"LIBUSB_ERROR_BUSY|resource busy|in use|exclusively", re.IGNORECASE)


def failure(tool: Tool, board: Board, probe: ProbeName, text: str) -> CompileError:
    """What the last lines of a tool mean. text: all that it printed."""
    said = tail(text, 8)
    named = f" {probe.serial or probe.location}" if probe.serial or probe.location else ""
    flash = board.flash
    if _NO_TARGET.search(text) and flash is not None:
        return MissingTool(
            f"{tool} does not know {flash.pyocd}\n{said}",
            hint=f"pyocd pack install {flash.pack or flash.pyocd}",
        )
    if _BUSY.search(text):
        return FlashFailed(
            f"the probe{named} of {board.name} is in use\n{said}",
            hint="end the debugger that holds it",
        )
    if _NO_PROBE.search(text):
        return NoProbe(
            f"{tool} finds no debug probe{named} for {board.name}\n{said}",
            hint="connect the board's debug port; `pyocd list` says what is there, --probe chooses",
        )
    if _OTHER_CHIP.search(text):
        return FlashFailed(
            f"the board at the probe{named} is no {board.name}\n{said}",
            expected=board.description,
            hint="choose its probe with --probe, or compile for the board that is there",
        )
    return FlashFailed(f"{tool} could not write to {board.name}\n{said}")

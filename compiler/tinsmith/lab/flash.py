"""Writes the firmware of a compiled project to its physical board."""

from __future__ import annotations

import shlex
import subprocess
import tempfile
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..codegen.report import read_report
from ..errors import CompileError
from ..machine.board import Board, load_board
from ..toolchain.compile_c import firmware, rebuild_if_changed
from ..toolchain.programs import find_program, run_program, tail
from ..trust.manifest import NONSECURE_IMAGE, SECURE_IMAGE, check_manifest
from .flash_tools import FlashFailed, ProbeName, Tool, failure, find_tool, flash_command, missing
from .place import Debugger

_NOT_FOUND = 127  # of a shell


@dataclass(frozen=True)
class Writing:
    """What is to be written, and how. images: in their order. host: where the probe is; None: at
    this machine. token: of the folder that the images are copied to there."""

    board: Board
    tool: Tool
    images: tuple[Path, ...]
    probe: ProbeName
    host: str | None = None
    token: str = field(default_factory=lambda: uuid.uuid4().hex[:12])

    def command(self, images: Sequence[str | Path] | None = None) -> list[str]:
        """Raises CompileError when board.toml does not describe the tool."""
        assert self.board.flash is not None
        return flash_command(self.tool, self.board.flash, images or self.images, self.probe)


def plan_writing(
    folder: Path, *, tool: Tool | None = None, probe: str | None = None, trace: bool = False
) -> Writing:
    """What writes a project to its board: `build/firmware.elf`, or the pair of a protected one, the
    secure image first, because a board starts in it.

    tool: in place of the board's own. probe: of which probe, by its serial number. trace: the
    firmware that reports every node. Raises CompileError for a board that is not written to and
    for a project without firmware, NotAuthentic for images that are not those of the manifest.
    """
    report = read_report(folder)
    board = load_board(report.board, report.target)
    if board.flash is None:
        raise _not_written_to(board)
    if report.trust is None:
        rebuild_if_changed(folder, board)
        images = [firmware(folder, trace=trace)]
    else:
        if trace:
            raise CompileError("a protected project has no firmware that traces")
        check_manifest(folder)
        images = [folder / SECURE_IMAGE, folder / NONSECURE_IMAGE]
    for image in images:
        if not image.is_file():
            hint = "run `tinsmith profile` on it first" if trace else "compile the model again"
            raise CompileError(f"{image} does not exist", hint=hint)
    chosen = tool or board.flash.tool
    return Writing(board, chosen, tuple(path.resolve() for path in images), ProbeName(probe))


def at_debugger(writing: Writing, debugger: Debugger) -> Writing:
    """The same through the probe of a place. pyocd knows probes by their numbers alone: without
    `--probe` it takes the only one of that machine."""
    probe = writing.probe
    if probe.serial is None and writing.tool == "openocd":
        probe = ProbeName(location=debugger.location)
    return replace(writing, probe=probe, host=debugger.host)


def _not_written_to(board: Board) -> CompileError:
    if board.emulator or board.is_host:
        what = "QEMU" if board.emulator else "this machine"
        return CompileError(
            f"{board.name} is no physical board: {what} runs it",
            hint="`tinsmith run` and `tinsmith verify` do",
        )
    return CompileError(
        f"boards/{board.name}/board.toml does not say what writes to the board",
        expected="a [flash] table",
        hint="docs/add-a-board.md has its keys",
    )


def write(writing: Writing) -> None:
    """Write, verify, reset. Raises MissingTool, NoProbe, or FlashFailed with the tool's words."""
    if writing.host is not None:
        _write_at(writing.host, writing)
        return
    command = writing.command()
    command[0] = find_tool(writing.tool)
    with tempfile.TemporaryDirectory(prefix="tinsmith-") as folder:
        done = run_program(command, Path(folder))
    if done.returncode != 0:
        raise failure(writing.tool, writing.board, writing.probe, done.stdout + done.stderr)


def remote_commands(writing: Writing) -> list[list[str]]:
    """The commands that write through a probe at another machine: copy there, write, take away."""
    assert writing.host is not None
    # On the lab's machine; `mkdir` fails where somebody else has made it.
    folder = f"/tmp/tinsmith-{writing.token}"
    names = [f"{folder}/{index}-{path.name}" for index, path in enumerate(writing.images)]
    there = shlex.join(writing.command(names))
    tidy = f"{there}; status=$?; rm -rf {folder}; exit $status"
    ssh = ["ssh", "-o", "BatchMode=yes", writing.host]
    copies = [
        ["scp", "-q", "-o", "BatchMode=yes", str(path), f"{writing.host}:{name}"]
        for path, name in zip(writing.images, names, strict=True)
    ]
    return [[*ssh, f"mkdir -m 700 {folder}"], *copies, [*ssh, tidy]]


def _write_at(host: str, writing: Writing) -> None:
    for name in ("ssh", "scp"):
        find_program(name, ["openssh-client"], f"the probe at {host}")
    *before, last = remote_commands(writing)
    for command in before:
        _must(host, run_program(command, Path.cwd()))
    done = run_program(last, Path.cwd())
    if done.returncode == _NOT_FOUND:
        raise missing(writing.tool, f" at {host}")
    if done.returncode != 0:
        raise failure(writing.tool, writing.board, writing.probe, done.stdout + done.stderr)


def _must(host: str, done: subprocess.CompletedProcess[str]) -> None:
    if done.returncode != 0:
        raise FlashFailed(
            f"the firmware could not be copied to {host}\n{tail(done.stderr)}",
            hint=f"`ssh {host}` must work without a password",
        )

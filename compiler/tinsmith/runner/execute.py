"""Runs a firmware on samples: natively for the host, else in the board's emulator; in parallel."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from ..errors import CompileError, InternalError
from ..ir.dtypes import TensorType
from ..machine.board import Board, emulated
from ..machine.cpu import missing_flags
from ..toolchain.programs import find_program, tail
from .exit_status import PowerCut, check_exit
from .over_serial import OUTPUTS, TICKS, TRACE, Job, carry_out, port_of
from .protocol import (
    Result,
    Sample,
    TraceRecord,
    decode_outputs,
    decode_trace,
    encode_samples,
    result_bytes,
)

__all__ = ["PowerCut"]

Progress = Callable[[int, int], None]  # runs done, runs in all

PROCESSES = 2
STALL_SECONDS = 300.0  # a single run never takes so long
_POLL_SECONDS = 0.02


def run_samples(
    elf: Path,
    board: Board,
    types: Sequence[Sequence[TensorType]],
    samples: Sequence[Sample],
    *,
    start: Sequence[Sample] = (),
    processes: int = PROCESSES,
    stall_seconds: float = STALL_SECONDS,
    progress: Progress | None = None,
) -> list[Result]:
    """Run every sample; results in order.

    elf: for a board with a twin, the twin's. types: of the outputs, per model of the firmware.
    start: commands without outputs that every process carries out first.

    Raises MissingTool without the emulator, InternalError when the firmware crashes or hangs.
    """
    port = port_of(elf, board)
    if port is not None:
        given = [*([] for _ in start), *(types[s.model] for s in samples)]
        job = Job(elf, lambda: command(elf, board), given, [*start, *samples], len(start))
        return carry_out(port, job, progress)[0][len(start) :]
    argv = command(elf, board)
    count = max(1, min(processes, len(samples) // 2))
    bounds = [len(samples) * i // count for i in range(count + 1)]
    with tempfile.TemporaryDirectory(prefix="tinsmith-") as temporary:
        running: list[_Process] = []
        try:
            for i in range(count):
                chunk = samples[bounds[i] : bounds[i + 1]]
                folder = Path(temporary) / str(i)
                given = [*([] for _ in start), *(types[s.model] for s in chunk)]
                running.append(_Process(argv, folder, [*start, *chunk], given))
            _wait(running, len(samples), stall_seconds, progress)
            return [r for process in running for r in process.results()[len(start) :]]
        finally:
            for process in running:
                process.stop()


def run_sequence(
    elf: Path,
    board: Board,
    types: Sequence[Sequence[TensorType]],
    samples: Sequence[Sample],
    *,
    flash: Path | None = None,
    stall_seconds: float = STALL_SECONDS,
    progress: Progress | None = None,
) -> list[Result]:
    """Carry out commands that build on each other, in one process. types: of each one's answer.

    flash: the file behind the flash of a model that learns; it changes as the device writes.
    Raises as `run_samples`, and PowerCut.
    """
    port = port_of(elf, board)
    if port is not None:
        job = Job(elf, lambda: command(elf, board), types, samples, flash=flash)
        return carry_out(port, job, progress)[0]
    with tempfile.TemporaryDirectory(prefix="tinsmith-") as temporary:
        process = _Process(command(elf, board), Path(temporary) / "0", samples, types, flash)
        try:
            _wait([process], len(samples), stall_seconds, progress)
            return process.results()
        finally:
            process.stop()


def trace_sample(
    elf: Path, board: Board, types: Sequence[TensorType], sample: Sample, *, data: bool = True
) -> list[TraceRecord]:
    """Run a firmware built with `trace` on one sample: every node's outputs, in order."""
    return trace_sequence(elf, board, [types], [sample], data=data)


def trace_sequence(
    elf: Path,
    board: Board,
    types: Sequence[Sequence[TensorType]],
    samples: Sequence[Sample],
    *,
    extra: Sequence[str] = (),
    data: bool = True,
) -> list[TraceRecord]:
    """`run_sequence` with a firmware built with `trace`: the outputs of all nodes, in order.

    extra: arguments for the emulator. data: False: over a serial port only the ticks are sent.
    """
    port = port_of(elf, board)
    if port is not None:
        file = TRACE if data else TICKS
        job = Job(elf, lambda: command(elf, board), types, samples, files=(OUTPUTS, file))
        return list(decode_trace(carry_out(port, job)[1][file]))
    with tempfile.TemporaryDirectory(prefix="tinsmith-") as temporary:
        argv = [*command(elf, board), *extra]
        process = _Process(argv, Path(temporary) / "0", samples, types)
        try:
            _wait([process], len(samples), STALL_SECONDS, None)
            return list(decode_trace((process.folder / "trace.bin").read_bytes()))
        finally:
            process.stop()


def command(elf: Path, board: Board) -> list[str]:
    """The command that runs an ELF; with a secure image beside it, that one, which starts `elf`.

    Raises MissingTool, CompileError without an emulator.
    """
    secure = elf.with_name("secure.elf")
    if secure.is_file():
        return _pair_command(secure.resolve(), elf.resolve(), board)
    if board.is_native:
        _check_processor(board)
        return [str(elf.resolve())]
    return _emulator(elf.resolve(), board)


def _check_processor(board: Board) -> None:
    """Raises CompileError when this machine lacks instructions that the program has."""
    missing = missing_flags(board.target)
    if missing:
        raise CompileError(
            f"this machine's processor cannot run code for {board.target.name}: it has no "
            f"{', '.join(missing)}",
            hint=f"compile for {board.name} with --cpu and a target that it has",
        )


def _emulator(elf: Path, board: Board) -> list[str]:
    machine = emulated(board)
    if not machine.emulator:
        raise CompileError(
            f"board {board.name} has no emulator, and is no machine like this one"
            if board.is_host
            else f"board {board.name} has no emulator",
            hint="take build/firmware.elf to a machine of its kind" if board.is_host else None,
        )
    program = find_program(machine.emulator[0], machine.debian_packages, f"board {board.name}")
    rest = [a.replace("{elf}", str(elf)) for a in machine.emulator[1:]]
    return [program, *rest]


def _pair_command(secure: Path, nonsecure: Path, board: Board) -> list[str]:
    if board.is_native:
        _check_processor(board)
        return [str(secure), str(nonsecure)]
    if board.is_host:
        raise CompileError(
            f"the two processes of a protected project for {board.name} run only on such a machine"
        )
    loaded = str(nonsecure).replace(",", ",,")  # QEMU's escape
    return [*_emulator(secure, board), "-device", f"loader,file={loaded}"]


@dataclass
class _Process:
    """One process with its own folder of files."""

    argv: Sequence[str]
    folder: Path
    samples: Sequence[Sample]
    types: Sequence[Sequence[TensorType]]
    flash: Path | None = None
    done: int = 0
    moved: float = field(default_factory=time.monotonic)
    _bytes: int = 0

    def __post_init__(self) -> None:
        self.folder.mkdir()
        if self.flash is not None:
            (self.folder / "flash.bin").symlink_to(self.flash.resolve())
        (self.folder / "samples.bin").write_bytes(encode_samples(self.samples))
        self._log: IO[bytes] = (self.folder / "log").open("wb")
        self._child = subprocess.Popen(
            self.argv,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def running(self, stall_seconds: float) -> bool:
        """Whether it still runs. Raises InternalError when it failed or stands still."""
        status = self._child.poll()
        outputs = self.folder / "outputs.bin"
        size = outputs.stat().st_size if outputs.exists() else 0
        if size != self._bytes:
            self._bytes, self.moved = size, time.monotonic()
            self._count()
        if status is None:
            if time.monotonic() - self.moved > stall_seconds:
                raise InternalError(
                    f"the firmware computed nothing for {stall_seconds:g} seconds in sample "
                    f"{self.done}"
                )
            return True
        log = tail((self.folder / "log").read_text(errors="replace")) if status else ""
        check_exit(status, self.done, log)
        return False

    def _count(self) -> None:
        end = sum(result_bytes(t) for t in self.types[: self.done])
        while self.done < len(self.types) and end + result_bytes(self.types[self.done]) <= (
            self._bytes
        ):
            end += result_bytes(self.types[self.done])
            self.done += 1

    def results(self) -> list[Result]:
        return decode_outputs((self.folder / "outputs.bin").read_bytes(), self.types)

    def stop(self) -> None:
        """End the process if it still runs."""
        if self._child.poll() is None:
            self._child.kill()
        self._child.wait()
        self._log.close()


def _wait(
    processes: Sequence[_Process], total: int, stall_seconds: float, progress: Progress | None
) -> None:
    told = -1
    while True:
        alive = [process.running(stall_seconds) for process in processes]
        done = min(total, sum(process.done for process in processes))
        if progress is not None and done != told:
            progress(done, total)
            told = done
        if not any(alive):
            return
        time.sleep(_POLL_SECONDS)

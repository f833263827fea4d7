"""Carries out commands on a board at a serial port; one that is reset is taken up again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import CompileError
from ..ir.dtypes import TensorType
from ..machine.board import Board
from ..serial_link.files import RemoteFiles
from ..serial_link.identity import identity_of
from ..serial_link.line import NoAnswer
from ..serial_link.link import SessionLost
from ..serial_link.port import Port, current_port
from ..serial_link.session import serve
from .exit_status import check_exit
from .protocol import Result, Sample, decode_outputs, encode_samples, result_bytes

_RESETS = 5  # in a row, without a result between them
_TELL_SECONDS = 0.2
OUTPUTS, TRACE, TICKS = "outputs.bin", "trace.bin", "ticks.bin"


@dataclass(frozen=True)
class Job:
    """What to carry out.

    elf: the firmware that answers; of a board with a twin, both. emulator: the command that runs
    it, for a port that is QEMU's. start: how many of the first commands every session begins with;
    the others do not depend on each other. None: all do, and a session that is lost starts again.
    flash: the file behind the flash. files: what the firmware writes.
    """

    elf: Path
    emulator: Callable[[], Sequence[str]]
    types: Sequence[Sequence[TensorType]]
    samples: Sequence[Sample]
    start: int | None = None
    flash: Path | None = None
    files: tuple[str, ...] = (OUTPUTS,)


def port_of(elf: Path, board: Board) -> Port | None:
    """The port by which a firmware is reached: of `using_port`, or QEMU's; None for a firmware
    that talks by files or semihosting. Raises CompileError when that was compiled for a port."""
    port = current_port()
    if not board.is_host and identity_of(elf) is not None:
        return port or Port()
    if any((folder / "harness" / "th_api.h").is_file() for folder in elf.parents[:3]):
        raise CompileError(
            "this firmware answers to the MLPerf Tiny runner alone",
            hint="compile with --harness serial, or without, to run it here",
        )
    if port is not None:
        raise CompileError(
            f"this project does not speak over a serial port, but --port is {port.name}",
            hint="compile it with --harness serial",
        )
    return None


def carry_out(
    port: Port, job: Job, progress: Callable[[int, int], None] | None = None
) -> tuple[list[Result], dict[str, bytes]]:
    """The answers in order, and the files that the firmware wrote in its last session.

    Raises NoAnswer, WrongFirmware, and what the firmware's exit status says.
    """
    firmware = _identities(job.elf, port)
    results: list[Result] = []
    losses = 0
    while True:
        first = len(results)
        samples = [*job.samples[: job.start or 0], *job.samples[first:]] if first else job.samples
        types = [*job.types[: job.start or 0], *job.types[first:]] if first else job.types
        files = RemoteFiles({"samples.bin": encode_samples(samples)}, job.files, job.flash)
        show = _Teller(port, types, files, first - len(job.types) + len(types), progress)
        before = job.flash.read_bytes() if job.flash else b""
        try:
            with port.line(job.emulator() if port.emulated else ()) as line:
                status = serve(
                    line, firmware, files, stall_seconds=port.stall_seconds,
                    statistics=port.statistics, moved=show,
                )  # fmt: skip
            check_exit(status, show.done)
            found = decode_outputs(_written(files, OUTPUTS), types)
            kept = found[job.start or 0 :] if first else found
            return [*results, *kept], {n: _written(files, n) for n in job.files}
        except SessionLost:
            port.statistics.resets += 1
            if job.flash is not None:
                job.flash.write_bytes(before)
            held = len(results)
            if job.start is not None:
                whole = decode_outputs(_written(files, OUTPUTS), types[: show.count()])
                results += whole[job.start :] if first else whole
                if len(results) <= job.start:
                    results = []
            losses = 1 if len(results) > held else losses + 1
            if losses > _RESETS:
                raise NoAnswer(
                    f"the board was reset {losses} times in a row and computed nothing between",
                    hint="look at its power supply and its watchdog",
                ) from None


def _identities(elf: Path, port: Port) -> dict[bytes, Path]:
    """Of every build that may answer: on a port that is not QEMU's also the board's own."""
    names = {elf.name} if port.emulated else {elf.name, "firmware.elf", "twin.elf"}
    paths = [elf.with_name(name) for name in sorted(names) if elf.with_name(name).is_file()]
    return {found: path for path in paths if (found := identity_of(path)) is not None}


def _written(files: RemoteFiles, name: str) -> bytes:
    return bytes(files.written.get(name, b""))


class _Teller:
    """Counts the results as they come in and says so."""

    def __init__(
        self,
        port: Port,
        types: Sequence[Sequence[TensorType]],
        files: RemoteFiles,
        before: int,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self._port, self._types, self._files = port, types, files
        self._before, self._progress = before, progress
        self.done = 0
        self._end = 0
        self._told = 0.0

    def count(self) -> int:
        """Results that are there as a whole."""
        there = len(self._files.written.get(OUTPUTS, b""))
        while self.done < len(self._types):
            end = self._end + result_bytes(self._types[self.done])
            if end > there:
                break
            self._end, self.done = end, self.done + 1
        return self.done

    def __call__(self) -> None:
        known = self.done
        done, total = self._before + self.count(), self._before + len(self._types)
        if self._progress is not None and self.done != known:
            self._progress(done, total)
        if self._port.tell is not None and time.monotonic() - self._told > _TELL_SECONDS:
            self._told = time.monotonic()
            moved = self._port.statistics.payload_bytes + self._files.moved
            self._port.tell(f"{done} of {total}, {moved:,} B moved")

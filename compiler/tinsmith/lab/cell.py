"""One cell of the matrix: compiled, written to its board, verified, measured."""

from __future__ import annotations

import hashlib
import tempfile
import time
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import msgspec

from .. import paths
from ..codegen.report import Report
from ..errors import CompileError
from ..project_file import run_build
from ..runner.bench import bench
from ..runner.compare import verify
from ..serial_link.port import using_port
from ..toolchain.compile_c import firmware
from ..toolchain.programs import find_program, run_program, tail
from .flash import at_debugger, plan_writing, write
from .flash_tools import FlashFailed
from .matrix import Cell, Station
from .place import Place, held

RESULT_FILE = "cell.json"
_SOURCES = (".py", ".j2", ".toml", ".c", ".h", ".S", ".specs", ".ld")
_INPUTS = ("model", "calibrate", "train", "tuned", "kernels", "input")

_FIGURES = (
    "flash_bytes", "ram_bytes", "arena_bytes", "stack_bytes", "macs",
    "instructions_per_inference", "latency_us",
)  # fmt: skip


class CellResult(msgspec.Struct):
    """What came of a cell.

    digest: a SHA-256 over the model, its data, the options, the board and the compiler. stage: in
    which it failed: compile, place, flash, verify or bench. kept: from an earlier run. samples:
    verified ones. The others are those of `report.json`; None where they do not exist.
    """

    model: str
    board: str
    digest: str
    ok: bool = False
    stage: str | None = None
    error: str | None = None
    kept: bool = False
    seconds: float = 0.0
    samples: int | None = None
    port: str | None = None
    flash_bytes: int | None = None
    ram_bytes: int | None = None
    arena_bytes: int | None = None
    stack_bytes: int | None = None
    macs: int | None = None
    instructions_per_inference: int | None = None
    latency_us: float | None = None


def digest_of(cell: Cell) -> str:
    """The SHA-256 of everything that decides a cell's result; where files lie does not."""
    build, digest = cell.build, hashlib.sha256(_compiler().encode())
    options = {k: v for k, v in msgspec.to_builtins(build).items() if k not in (*_INPUTS, "out")}
    digest.update(msgspec.json.encode([options, cell.station], order="sorted"))
    for key in _INPUTS:
        name = getattr(build, key)
        for path in sorted(Path(name).parent.glob(f"{Path(name).name}*")) if name else ():
            if path.is_file():  # with the external data of a model beside it
                digest.update(f"{key} {path.name} {path.stat().st_size}\n".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()


def kept_result(cell: Cell, digest: str) -> CellResult | None:
    """The result of an earlier run with the same digest, when that succeeded."""
    try:
        data = (Path(cell.build.out) / RESULT_FILE).read_bytes()
        result = msgspec.json.decode(data, type=CellResult)
    except (OSError, msgspec.DecodeError):
        return None
    result.kept = True
    return result if result.ok and result.digest == digest else None


def run_cell(cell: Cell, digest: str) -> CellResult:
    """Carries a cell out. A failure is in the result; nothing is raised for it."""
    result = CellResult(cell.model, cell.board, digest, stage="compile")
    folder, station = Path(cell.build.out), cell.station
    started = time.monotonic()
    (folder / RESULT_FILE).unlink(missing_ok=True)
    try:
        run_build(cell.build, pictures=False)
        with ExitStack() as stack:
            place, port = None, station.port
            if station.labgrid is not None:
                result.stage = "place"
                place = stack.enter_context(held(station.labgrid, station.coordinator))
            if station.flash:
                result.stage = "flash"
                _flash(folder, station, place)
            if place is not None:
                result.stage = "place"
                port = place.port()
            line = stack.enter_context(using_port(port, station.rate))
            result.port = line.name if line is not None else None
            result.stage = "verify"
            checked = verify(folder, cell.build.input)
            checked.check()
            result.samples = checked.samples
            result.stage = "bench"
            _take_figures(result, bench(folder))
        result.ok, result.stage = True, None
    except CompileError as error:
        result.error = error.render().removeprefix("error: ")
    result.seconds = round(time.monotonic() - started, 2)
    if result.ok:
        text = msgspec.json.format(msgspec.json.encode(result), indent=2)
        (folder / RESULT_FILE).write_bytes(text + b"\n")
    return result


def _flash(folder: Path, station: Station, place: Place | None) -> None:
    if isinstance(station.flash, list):
        _call(station.flash, firmware(folder).resolve())
        return
    plan = plan_writing(folder, probe=station.probe)
    write(plan if place is None else at_debugger(plan, place.debugger()))


def _call(command: list[str], elf: Path) -> None:
    """A command of the matrix; its program is found on PATH. Raises FlashFailed."""
    words = [word.replace("{elf}", str(elf)) for word in command]
    words[0] = find_program(words[0], [], "the key flash of this board")
    with tempfile.TemporaryDirectory(prefix="tinsmith-") as folder:
        done = run_program(words, Path(folder))
    if done.returncode != 0:
        said = tail(done.stdout + done.stderr, 8)
        raise FlashFailed(f"{command[0]} ended with exit status {done.returncode}\n{said}")


def _take_figures(result: CellResult, report: Report) -> None:
    for name in _FIGURES:
        setattr(result, name, getattr(report, name))


@cache
def _compiler() -> str:
    """The SHA-256 of the compiler, its templates, the runtime, targets and boards."""
    digest = hashlib.sha256()
    package = Path(__file__).resolve().parents[1]
    for root in (package, paths.RUNTIME_C, paths.TARGETS, paths.BOARDS):
        for path in sorted(root.rglob("*")):
            if path.suffix in _SOURCES and path.is_file():
                digest.update(f"{path.relative_to(root)} {path.stat().st_size}\n".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()

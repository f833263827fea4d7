"""Puts the board's firmware around a compiled model: start-up, files, counters, linker script."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from .. import paths
from ..codegen.c_text import c_model_name
from ..codegen.environment import render
from ..codegen.state import sealed_state
from ..errors import CompileError
from ..ir.dtypes import DType
from ..ir.graph import Graph
from ..machine.board import Board, emulated
from ..machine.peripherals import Serial
from ..machine.trust_zone import load_trust_zone

_SOURCES = paths.RUNTIME_C / "harness"
_ANDROID = _SOURCES / "android" / "android-arm64.cmake"
_EVERYWHERE = ("harness.h", "learn.h", "main.c", "trace.c")
_SERIAL = paths.RUNTIME_C / "serial"
_LINK = ("ts_frame.h", "ts_frame.c", "ts_link.h", "ts_link.c")
_FILES = ("remote_files.h", "remote_files.c", "files.c")
_PORT = ("ts_serial.h", "restart.c")
_MLPERF = paths.RUNTIME_C / "mlperf"
# What `db` loads for the benchmarks of MLPerf Tiny: bytes of images, or features; else int8.
_ENCODINGS = {"ic01": "UINT8", "vww01": "UINT8", "ad01": "FLOAT32"}
ENERGY = "mlperf-tiny-energy"
# Of flash, with their libraries and start-up; measured on Cortex-M7 and RISC-V, and a little more.
HARNESS_BYTES: dict[str, int] = {
    "semihosting": 1536,
    "serial": 4608,
    "mlperf-tiny": 10240,
    ENERGY: 10240,
}
HARNESSES = tuple(HARNESS_BYTES)  # how firmware and host talk
_TO_RUNNER = ("mlperf-tiny", ENERGY)
_ENERGY_BAUD = 9600  # of the reference submissions
OWN, TWIN = "board", "twin"  # folders of sources for the board itself, and for its twin alone
_RATE = re.compile(r"TS_UART_BAUD (\d+)u")
_TO_LEARN = ("learn.c", "store.c", "nor_flash.h", "nor_flash.c")


@dataclass(frozen=True)
class ModelBinding:
    """A model as the harness sees it. `name` is its C name.

    train_input_count: 0 for a model that does not learn. seals: a part of its state is in secure
    memory. quantized: its inputs and outputs are int8.
    """

    name: str
    input_count: int
    output_count: int
    train_input_count: int = 0
    seals: bool = False
    quantized: bool = True

    @property
    def macro(self) -> str:
        return self.name.upper()

    @staticmethod
    def of(graph: Graph, train: Graph | None = None) -> ModelBinding:
        """train: the model's training graph; its last input, the rate, is no input in C."""
        return ModelBinding(
            c_model_name(graph.name),
            len(graph.inputs),
            len(graph.outputs),
            len(train.inputs) - 1 if train else 0,
            train is not None and sealed_state(train) is not None,
            all(v.type.dtype is DType.INT8 for v in (*graph.inputs, *graph.outputs)),
        )


def with_uart(
    board: Board, harness: str, baud: int | None = None, *, protected: bool = False
) -> Board:
    """The board with its UART at the rate that is wanted. Raises CompileError for an unknown
    harness, a rate that the UART has not, or what a protected project cannot have."""
    if harness not in HARNESSES:
        expected = f"one of {', '.join(HARNESSES)}"
        raise CompileError(f"unknown harness {harness!r}", expected=expected)
    if harness == "semihosting" and baud is None:
        return board
    if harness == "semihosting":
        raise CompileError("--baud is of a serial firmware", hint="add --harness serial")
    serial = board.serial
    if serial is None:
        raise _no_uart(board)
    if protected:
        _check_worlds(board, harness)
    if harness == ENERGY:
        board = _with_pin(board)
        baud = baud or _ENERGY_BAUD
    if baud is None:
        return board
    if baud < serial.slowest or (serial.fastest and baud > serial.fastest):
        expected = f"{serial.slowest:,} to {serial.fastest:,} baud"
        raise CompileError(f"the UART of {board.name} has no {baud:,} baud", expected=expected)
    return replace(board, serial=msgspec.structs.replace(serial, baud=baud))


def _with_pin(board: Board) -> Board:
    """The board with the pin of timestamps set up. Raises CompileError where there is none."""
    if board.pin is None:
        hint = "docs/serial.md says how to add one"
        raise CompileError(f"board {board.name} has no pin for timestamps", hint=hint)
    return replace(board, setup=(*board.setup, *board.pin.setup))


def _check_worlds(board: Board, harness: str) -> None:
    """Raises CompileError where the non-secure world has no such harness."""
    if harness in _TO_RUNNER:
        raise CompileError("a protected project has no MLPerf Tiny firmware", hint="omit --trust")
    if not load_trust_zone(board.name).non_secure.uart:
        raise CompileError(
            f"the UART of {board.name} is not the non-secure world's",
            hint=f"omit --harness, or see `uart` in boards/{board.name}/trust.toml",
        )


def harness_of(project_dir: Path) -> tuple[str, int | None]:
    """How the firmware of a written project talks, and at which rate."""
    folder = project_dir / "harness"
    names = {"ts_link.h": "serial", "th_api.h": "mlperf-tiny"}
    kind = next((kind for name, kind in names.items() if (folder / name).is_file()), HARNESSES[0])
    if kind == HARNESSES[0]:
        return kind, None
    rate = _RATE.search((folder / "ts_board.h").read_text())
    return kind, int(rate[1]) if rate else None


def _no_uart(board: Board) -> CompileError:
    hint = None if board.is_host else "docs/add-a-board.md says how to add one"
    return CompileError(f"board {board.name} has no UART that tinsmith knows", hint=hint)


def harness_files(
    board: Board, models: Sequence[ModelBinding], harness: str = "semihosting", beside: str = ""
) -> Mapping[str, str]:
    """File name → text of everything in `harness/`. Several models can share one firmware.

    beside: what else is on the board, as a serial firmware tells the host.

    The linker script of a board with a twin comes twice: `link.ld`, and `link_twin.ld` for what
    runs in the emulator. Sources in `board/` and `twin/` are of one of the two alone.
    """
    elf = board.target.elf
    if harness in _TO_RUNNER:
        return {**_mlperf_files(board, models, harness == ENERGY), **_machine_files(board)}
    sources = [_SOURCES / name for name in _EVERYWHERE]
    if not board.is_host:
        sources.append(_SOURCES / "stack.c")
    if not board.is_host and harness == "semihosting":
        sources.append(_SOURCES / "semihosting.c")
    if any(model.train_input_count for model in models):
        sources += [_SOURCES / name for name in _TO_LEARN]
    sources += sorted((_SOURCES / elf).glob("*.[ch]"))
    files = {source.name: source.read_text() for source in sources}
    files["model_binding.c"] = render("harness/model_binding.c.j2", {"models": models})
    if board.serial is not None and harness == "serial":
        files |= {name: (_SERIAL / name).read_text() for name in (*_LINK, *_FILES)}
        files |= _port_files(board, models, beside)
    return files | _machine_files(board)


def _machine_files(board: Board) -> dict[str, str]:
    """What the board does first, and how it is linked; nothing where there is a system."""
    if board.is_host:
        return {}
    files = {"link.ld": link_script(board)}
    if board.setup:
        if board.target.elf != "arm":
            raise CompileError(f"{board.name} has a set-up: only a Cortex-M does one")
        text = render(f"harness/{board.target.elf}/setup.c.j2", {"board": board})
        files[f"{OWN}/setup.c"] = text
    if board.twin:
        files["link_twin.ld"] = link_script(emulated(board))
    return files


def _mlperf_files(board: Board, models: Sequence[ModelBinding], energy: bool) -> Mapping[str, str]:
    """The firmware of the MLPerf Tiny runner. Raises CompileError for models it cannot serve."""
    model = models[0]
    if model.input_count != 1 or model.output_count != 1 or model.train_input_count:
        raise CompileError(
            "the MLPerf Tiny firmware is of a model with one input and one output that does not "
            "learn",
            hint="omit --harness, or compile without --train",
        )
    encoding = _ENCODINGS.get(model.name, "INT8") if model.quantized else "FLOAT32"
    machine = _SOURCES / board.target.elf
    sources = [_SOURCES / "harness.h", *machine.glob("*.[ch]"), *_MLPERF.glob("*.[ch]")]
    view = {
        "model": model,
        "board": board.name,
        "tick_hz": board.clock_hz or 1_000_000_000,  # an emulated instruction is a nanosecond
        "encoding": encoding,
        "scored": model.name == "ad01",
        "pin": board.pin if energy else None,
    }
    return {
        **{source.name: source.read_text() for source in sorted(sources)},
        **_port_files(board, models),
        "model_binding.c": render("harness/model_binding.c.j2", {"models": models}),
        "th_config.h": render("mlperf/th_config.h.j2", view),
    }


def _port_files(board: Board, models: Sequence[ModelBinding], beside: str = "") -> dict[str, str]:
    """The UART's driver; of a board with a twin, the twin's too."""
    assert board.serial is not None
    files = {name: (_SERIAL / name).read_text() for name in _PORT}
    files["ts_board.h"] = _serial_header(board, models, beside)
    files |= _driver(OWN, board.serial)
    twin = emulated(board)
    if board.twin and twin.serial is not None:
        serial = msgspec.structs.replace(twin.serial, baud=board.serial.baud)
        machine = replace(twin, name=board.name, serial=serial)
        files[f"{TWIN}/ts_board.h"] = _serial_header(machine, models)
        files |= _driver(TWIN, serial)
    return files


def _driver(folder: str, serial: Serial) -> dict[str, str]:
    name = f"uart_{serial.driver}.c"
    return {f"{folder}/{name}": (_SERIAL / name).read_text()}


def _serial_header(board: Board, models: Sequence[ModelBinding], beside: str = "") -> str:
    """ts_board.h: the UART, and what the firmware says it is."""
    assert board.serial is not None
    serial = msgspec.structs.replace(board.serial, clock_hz=board.serial.clock_hz or board.clock_hz)
    name = f"{', '.join(m.name for m in models)} on {board.name}"
    names = {
        "board": board.name,
        "serial": serial,
        "name": f"{name}, {beside}" if beside else name,
    }
    return render("serial/ts_board.h.j2", names)


def link_script(board: Board) -> str:
    """The linker script of a board, from its regions."""
    names = {
        "board": board.name,
        "description": board.description,
        "regions": board.regions,
        "boot": "boot" if board.region("boot") else "flash",
        "stack_bytes": board.stack_bytes,
    }
    return render(f"harness/{board.target.elf}/link.ld.j2", names)


def write_harness(
    project_dir: Path,
    board: Board,
    models: Sequence[ModelBinding],
    harness: str = "semihosting",
    beside: str = "",
) -> None:
    """Write `harness/` into a project, and for Android CMake's toolchain file; files of an earlier
    board are removed. harness, beside: as in `harness_files`."""
    folder = project_dir / "harness"
    folder.mkdir(parents=True, exist_ok=True)
    files = harness_files(board, models, harness, beside)
    for old in folder.rglob("*"):
        if old.is_file() and str(old.relative_to(folder)) not in files:
            old.unlink()
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    for_cmake = project_dir / _ANDROID.name
    for_cmake.unlink(missing_ok=True)
    if board.toolchain == "android-ndk":
        for_cmake.write_text(_ANDROID.read_text())

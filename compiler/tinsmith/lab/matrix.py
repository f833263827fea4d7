"""The file of `tinsmith lab`: which models, on which boards, and where those are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import msgspec

from ..errors import BadInput
from ..machine.board import load_board
from ..project_file import Build, read_build, read_entry, read_toml
from ..serial_link.port import BAUD, QEMU
from .place import coordinator_address

_EXAMPLE = '[model.kws]\nmodel = "kws.onnx"\n\n[board.mps2-an386]'
_OF_THE_BOARD = ("board", "cpu", "harness", "baud")
_OF_THE_LAB = ("out", "verify", "report")


class Station(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """A board of the matrix.

    board: its name under `boards/`; by default the table's. cpu: of a board with several targets.
    port, baud: where it is, as for `--port`; labgrid, coordinator: which place. Without either it
    is emulated, or this machine. flash: whether, or with which command, firmware is written first;
    "{elf}" in it is the file. By default with the tool of `board.toml`, where that names one and
    there is a port. probe: of several.
    """

    board: str = ""
    cpu: str | None = None
    port: str | None = None
    baud: int | None = None
    labgrid: str | None = None
    coordinator: str | None = None
    flash: bool | list[str] | None = None
    probe: str | None = None

    @property
    def remote(self) -> bool:
        """Whether it is reached over a port."""
        return self.port is not None or self.labgrid is not None

    @property
    def rate(self) -> int:
        """Bits per second of the port: as given, or of the board's UART."""
        serial = load_board(self.board).serial
        return self.baud or (serial.baud if serial else BAUD)

    @property
    def resource(self) -> str | None:
        """What one cell at a time may use; None where any number may: emulated boards."""
        if self.labgrid is not None:
            return f"place {self.labgrid} of {coordinator_address(self.coordinator)}"
        if self.port is not None and self.port != QEMU:
            return f"port {self.port}"
        return f"probe {self.probe or ''}" if self.flash else None


class Cell(msgspec.Struct):
    """A model on a board."""

    model: str
    board: str
    build: Build
    station: Station

    @property
    def name(self) -> str:
        return f"{self.model} on {self.board}"


def read_matrix(path: Path, folder: Path) -> list[Cell]:
    """Every model on every board, in the order of the file; what they are compiled into lies in
    `folder`/MODEL/BOARD. Keys outside of tables hold for every model.

    Raises BadInput with the key and what is known, CompileError for a board that does not exist.
    """
    data = read_toml(path, _EXAMPLE)
    models = _tables(path, data, "model")
    boards = _tables(path, data, "board")
    cells: list[Cell] = []
    for model, own in models.items():
        for board, keys in boards.items():
            station = _station(path, board, keys)
            build = _build(path, model, {**data, **own}, station)
            build.out = str(folder.resolve() / model / board)
            cells.append(Cell(model, board, build, station))
    return cells


def _tables(path: Path, data: dict[str, Any], key: str) -> Mapping[str, Mapping[str, Any]]:
    tables = data.pop(key, {})
    if not isinstance(tables, dict) or any(not isinstance(t, dict) for t in tables.values()):
        raise BadInput(f"{path}: `{key}` is no table of tables", expected=f"[{key}.NAME]")
    if not tables:
        raise BadInput(f"{path} has no {key}s", expected=f"at least\n{_EXAMPLE}")
    named = cast("Mapping[str, Mapping[str, Any]]", tables)
    for name in named:
        if not name or set(name) & set("/\\") or name.startswith("."):
            raise BadInput(f"{path}: {name!r} is no name of a {key}", expected="a folder's name")
    return named


def _build(path: Path, name: str, data: dict[str, Any], station: Station) -> Build:
    for key in data:
        if key in _OF_THE_BOARD:
            raise BadInput(
                f"{path}: model {name} has a key {key!r}", hint="it belongs to [board.NAME]"
            )
        if key in _OF_THE_LAB:
            raise BadInput(
                f"{path}: model {name} has a key {key!r}",
                hint="every cell is compiled into -o DIR, verified and measured",
            )
    more: dict[str, Any] = {"board": station.board}
    if station.cpu is not None:
        more["cpu"] = station.cpu
    if station.remote:
        more |= {"harness": "serial", "baud": station.rate}
    return read_build(path, name, {**data, **more}, "model")


def _station(path: Path, name: str, data: Mapping[str, Any]) -> Station:
    station = read_entry(Station, path, f"board {name}", {"board": name, **data})
    board = load_board(station.board)
    problem = {
        "has both a port and a labgrid place": station.port and station.labgrid,
        "has a coordinator and no labgrid place": station.coordinator and not station.labgrid,
        "has a baud rate and no port": station.baud and not station.remote,
        "has an empty command to flash with": station.flash == [],
        "is to be flashed, but board.toml does not say how": station.flash is True
        and board.flash is None,
    }
    for text, found in problem.items():
        if found:
            raise BadInput(f"{path}: board {name} {text}", hint="docs/lab.md explains the keys")
    if station.flash is None:
        station.flash = board.flash is not None and station.remote
    return station

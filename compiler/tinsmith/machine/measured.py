"""What `tinsmith tune` measured of kernels on a model's layers, for boards that an emulator stands
for: a JSON file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import msgspec

from ..errors import BadInput
from .board import Board
from .costs import Cost


class MeasuredLayer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """key: of kernel and layer (`kernels.costs.layer_key`). node: one that has it."""

    key: str
    node: str
    kernel: str
    cost: Cost


class Measured(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file. compiler, kernels: whose code was measured, of which templates."""

    target: str
    compiler: str
    kernels: str
    measured: tuple[MeasuredLayer, ...]
    schema_version: Literal[1] = 1

    @property
    def costs(self) -> Mapping[str, Cost]:
        return {layer.key: layer.cost for layer in self.measured}


def write_measured(path: Path, measured: Measured) -> None:
    """Raises BadInput when the file cannot be written."""
    try:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(measured), indent=2) + b"\n")
    except OSError as error:
        raise BadInput(f"cannot write {path}: {error.strerror}") from error


def read_measured(path: Path) -> Measured:
    """Raises BadInput for a file that is not there or not of this form."""
    if not path.is_file():
        raise BadInput(f"there is no file {path}", expected="what `tinsmith tune` wrote")
    try:
        return msgspec.json.decode(path.read_bytes(), type=Measured)
    except msgspec.DecodeError as error:
        raise BadInput(f"{path}: {error}", expected="what `tinsmith tune` wrote") from error


def with_measured(board: Board, measured: Measured, compiler: str, kernels: str) -> Board:
    """The board, its target with these costs. compiler, kernels: what it has now.

    Raises BadInput when they are of another target, compiler or version of the kernels.
    """
    target = board.target
    pairs = (
        ("target", measured.target, target.name),
        ("compiler", measured.compiler, compiler),
        ("version of the kernels", measured.kernels, kernels),
    )
    for what, then, now in pairs:
        if then != now:
            raise BadInput(
                f"the kernels were measured with another {what}: {then}, not {now}",
                expected=f"a file that `tinsmith tune --board {board.name}` wrote now",
                hint="tune again: only what changed is measured",
            )
    return replace(board, target=replace(target, measured=measured.costs))

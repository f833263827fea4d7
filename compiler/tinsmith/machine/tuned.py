"""What `tinsmith tune` found for a target: the tiles of a model's layers, in a JSON file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import msgspec

from ..errors import BadInput
from .board import Board


class TunedLayer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """layer: its operator, element type, shapes and window. pixels, vectors: the tile.

    default_pixels, default_vectors: what it has without. us, default_us: microseconds of a call.
    """

    layer: str
    pixels: int
    vectors: int
    us: float
    default_pixels: int
    default_vectors: int
    default_us: float


class Tuned(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file. target: whose kernels were measured; layers: those that are faster so."""

    target: str
    layers: tuple[TunedLayer, ...]
    schema_version: Literal[1] = 1


def write_tuned(path: Path, tuned: Tuned) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(tuned), indent=2) + b"\n")


def read_tuned(path: Path) -> Tuned:
    """Raises BadInput for a file that is not there or not of this form."""
    if not path.is_file():
        raise BadInput(f"there is no file {path}", expected="what `tinsmith tune` wrote")
    try:
        return msgspec.json.decode(path.read_bytes(), type=Tuned)
    except msgspec.DecodeError as error:
        raise BadInput(f"{path}: {error}", expected="what `tinsmith tune` wrote") from error


def with_tiles(board: Board, tuned: Tuned) -> Board:
    """The board, its target with these tiles. Raises BadInput when they are of another target."""
    target = board.target
    if target.tvm is None or target.name != tuned.target:
        raise BadInput(
            f"the tiles were measured for {tuned.target}, not for {target.name}",
            expected=f"a file that `tinsmith tune --board {board.name}` wrote",
            hint="--cpu says which of a board's targets is meant",
        )
    tiles = tuple((t.layer, t.pixels, t.vectors) for t in tuned.layers)
    isa = msgspec.structs.replace(target.tvm, tiles=tiles)
    return replace(board, target=replace(target, tvm=isa))

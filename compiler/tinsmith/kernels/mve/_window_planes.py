"""Planes of eight channels, and what the templates of windows over them see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...ir.dtypes import Array
from ._windows import Block

AT_ONCE = 8  # channels
MAX_OFFSET = 2**16 - 1  # of a scatter's lane, bytes
MAX_PLANE = 4095
_CLOSING_BYTES, _CLOSING_FLOATS = 13, 8  # instructions that end a block, see windows_channels.j2
_MAX_UNROLL = 8


def closing(*, floats: bool, masked: bool = False, more: int = 0) -> int:
    return (_CLOSING_FLOATS if floats else _CLOSING_BYTES) + masked + more


@dataclass(frozen=True)
class Planes:
    """How lines lie in a plane. stride: bytes from one to the next; top, left: of the border;
    taken_h, taken_w: of the tensor; lines, bytes: of a plane; size, row, pixel: of the tensor."""

    stride: int
    top: int
    left: int
    lines: int
    taken_h: int
    taken_w: int
    bytes: int
    in_h: int
    row: int
    pixel: int

    def view(self, fill: int, *, banded: bool = False) -> Mapping[str, Any]:
        return {
            **vars(self),
            "fill": fill,
            "banded": banded,
            "some": self.pixel % AT_ONCE != 0,
            "unroll": min(self.taken_w, _MAX_UNROLL),
        }

    def instructions(self, lines: int) -> float:
        """Of taking so many lines of eight channels."""
        return lines * (4.0 * self.taken_w + 2.0 * -(-self.taken_w // _MAX_UNROLL))


def image_place(planes: Planes, blocks: Sequence[Block]) -> int:
    """Of the image in scratch, behind eight planes and what blocks read behind the last one."""
    reads = max(b.reads for b in blocks)
    return -(-(AT_ONCE * planes.bytes + max(0, reads - planes.bytes)) // 4) * 4


def places(block: Block, row: int, column: int) -> list[int]:
    """Where the first half's outputs go, bytes; row, column: from one to the next."""
    return [r * row + c * column for r, c in block.first_half]


def farthest(block: Block, row: int, column: int) -> int:
    """The last output of a block, likewise."""
    return (block.rows - 1) * row + (block.columns - 1) * column


def table(block: Block, row: int, column: int, *, floats: bool) -> Array:
    """uint8: where outputs go, then of each part of the image the taps and a mask of them."""
    first = places(block, row, column)
    if floats:
        at = np.zeros(4, np.uint32)
        at[: len(first)] = first
    else:
        at = np.zeros(8, np.uint16)
        at[: 2 * len(first) : 2] = first
        second = block.second[0] * row + block.second[1] * column
        at[1 : 2 * len(first) : 2] = np.array(first) + second
    parts = np.array([taps for _, taps in block.parts])
    masked = np.stack([np.maximum(parts, 0), np.where(parts < 0, 0, 255)], 1)
    return np.concatenate([at.view(np.uint8), masked.astype(np.uint8).ravel()])


def _mask(block: Block, *, floats: bool) -> int:
    lanes = len(block.first_half)
    if floats:
        return (1 << 4 * lanes) - 1
    pair = 0b1111 if any(block.second) else 0b0011
    return sum(pair << 4 * lane for lane in range(lanes))


def _steps(count: int, at_once: int, tiles: int) -> tuple[int, int]:
    """From tile to tile, and to the last one, in outputs; 0 where there is one tile."""
    if tiles == 1:
        return 0, 0
    return at_once, count - at_once - (tiles - 2) * at_once


def block_view(
    block: Block, plane_bytes: int, row: int, column: int, *, floats: bool, taps: int
) -> Mapping[str, Any]:
    """Of `windows_channels.j2`. row, column: bytes of the output from one to the next. taps: of a
    filter."""
    w = block.window
    down, across = block.tiles
    walked = block.walked
    step, last = _steps(w.columns, block.columns, across)
    columns = [(n * w.column_step - walked * (across > 1), n * column) for n in (step, last)]
    shift = step * (across - 2) + last if across > 1 else 0
    # After the last tile a step is taken, too.
    done = (shift + step) * w.column_step + walked * (across == 1), (shift + step) * column
    step, last = _steps(w.rows, block.rows, down)
    lines = [(n * w.row_step - done[0], n * row - done[1]) for n in (step, last)]
    if down == 1:
        lines = [(0, 0), (0, 0)]
    shift = step * (down - 2) + last if down > 1 else 0
    ended = done if down == 1 else ((shift + step) * w.row_step, (shift + step) * row)
    return {
        "ops": block.ops,
        "opening": block.opening,
        "saved": max(0, block.last_register - 3),
        "two": any(block.second),
        "second_bytes": block.second[0] * row + block.second[1] * column,
        "masked": len(block.first_half) < 4 or not (floats or any(block.second)),
        "mask": _mask(block, floats=floats),
        "tiles": block.tiles,
        "image_bytes": block.image_bytes,
        "image_origin": block.image_origin,
        "filter_bytes": taps,
        "column_step": columns[0],
        "last_column_step": columns[1],
        "row_step": lines[0],
        "last_row_step": lines[1],
        "channel_step": (plane_bytes - ended[0], (4 if floats else 1) - ended[1]),
    }

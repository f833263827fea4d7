"""Blocks of windows on Helium: what their operations come to, played in Python."""

from __future__ import annotations

import numpy as np
import pytest

from tinsmith.ir.dtypes import Array
from tinsmith.kernels.mve._windows import VECTOR, Block, Window, best_block


def _window(rng: np.random.Generator) -> Window:
    kernel_h, kernel_w = (int(n) for n in rng.integers(1, 8, 2))
    rows, columns = (int(n) for n in rng.integers(1, 10, 2))
    down, across = (int(n) for n in rng.integers(1, 3, 2))
    pitch = (columns - 1) * across + kernel_w + int(rng.integers(0, 60))
    taps = [(y * pitch + x, y * kernel_w + x) for y in range(kernel_h) for x in range(kernel_w)]
    return Window(rows, columns, down * pitch, across, tuple(taps))


def _played(block: Block, plane: Array, taps: Array) -> tuple[dict[int, int], int]:
    """Sums by accumulator, and where the pointer to the plane ends."""
    image = np.zeros(block.image_bytes, np.int64)
    vectors: dict[int, Array] = {}
    for at, numbers in block.parts:
        part = np.array([taps[n] if n >= 0 else 0 for n in numbers])
        if block.has_image:
            image[at : at + VECTOR] = part
    at_image, sums = block.image_origin, dict[int, int]()
    if not block.has_image:
        for (_, numbers), of in zip(block.parts, block.registers, strict=True):
            vectors[of[0]] = np.array([taps[n] if n >= 0 else 0 for n in numbers])
    at_plane, loaded = 0, np.zeros(VECTOR, np.int64)
    for op, a, b, first in (*block.opening, *block.ops):
        if op == "image":
            vectors[a] = image[at_image + b :][:VECTOR]
        elif op == "turn":
            at_image += a
        elif op == "walk":
            at_plane += a
        elif op == "load":
            loaded = plane[at_plane + b :][:VECTOR]
        elif op == "sum":
            assert first == (a not in sums)
            sums[a] = sums.get(a, 0) + int(loaded @ vectors[b])
    assert at_image == block.image_origin
    return sums, at_plane


@pytest.mark.parametrize("seed", range(40))
def test_a_block_sums_every_tap_of_its_windows_once(seed: int) -> None:
    rng = np.random.default_rng(seed)
    window = _window(rng)
    block = best_block(window, 14)
    assert block is not None
    plane = rng.integers(-128, 128, block.reads)
    taps = rng.integers(-127, 128, len(window.taps))
    sums, walked = _played(block, plane, taps)
    assert walked == block.walked
    halves = [(0, (0, 0)), *([(4, block.second)] if any(block.second) else [])]
    wanted = {
        base + i: sum(
            plane[window.place((r + down, c + across)) + at] * taps[n] for at, n in window.taps
        )
        for base, (down, across) in halves
        for i, (r, c) in enumerate(block.first_half)
    }
    assert sums == wanted


def test_an_image_beyond_reach_is_refused() -> None:
    taps = tuple((600 * y + x, 7 * y + x) for y in range(7) for x in range(7))
    assert best_block(Window(4, 4, 600, 1, taps), 14) is None

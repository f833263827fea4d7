"""How windows of any size are summed over planes of one channel, eight outputs per block.

A plane holds the lines of a channel one after the other; the border right of a line is the one left
of the next. VMLADAVA.S8 sums 16 bytes of it by 16 of an image of the filter: its taps at their
distances in the plane, zeros between and around them. Outputs that lie near each other share
what they load, and read the image from a few bytes further back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

VECTOR = 16
MAX_IMAGE = 496  # bytes that stores with an offset reach
_HELD = 5  # q3 … q7: vectors of the image that stay, and more than one at a time that do not
_REACH = 127  # of a load's offset
_MAX_SHIFT = 12

Op = tuple[str, int, int, int]


@dataclass(frozen=True)
class Window:
    """rows, columns: of outputs. row_step, column_step: bytes of the plane from one to the next.
    taps: (place in the plane from an output's window on, number in the filter), ascending."""

    rows: int
    columns: int
    row_step: int
    column_step: int
    taps: tuple[tuple[int, int], ...]

    def place(self, at: tuple[int, int]) -> int:
        return at[0] * self.row_step + at[1] * self.column_step


@dataclass(frozen=True)
class Block:
    """half: rows and columns of four outputs at most; second: how far the other four are, (0, 0)
    where there are none. shift: by how much of the image's zeros outputs share a load."""

    window: Window
    half: tuple[int, int]
    second: tuple[int, int]
    shift: int

    @property
    def rows(self) -> int:
        return self.half[0] + self.second[0]

    @property
    def columns(self) -> int:
        return self.half[1] + self.second[1]

    @property
    def tiles(self) -> tuple[int, int]:
        """Blocks down and across; the last ones may overlap those before them."""
        return -(-self.window.rows // self.rows), -(-self.window.columns // self.columns)

    @property
    def first_half(self) -> list[tuple[int, int]]:
        return [(r, c) for r in range(self.half[0]) for c in range(self.half[1])]

    @cached_property
    def _outputs(self) -> list[tuple[int, int]]:
        """(place, accumulator) by place."""
        found: list[tuple[int, int]] = []
        for base, by in ((0, (0, 0)), (4, self.second)):
            if base and not any(by):
                continue
            for i, (r, c) in enumerate(self.first_half):
                found.append((self.window.place((r + by[0], c + by[1])), base + i))
        return sorted(found)

    @cached_property
    def _sets(self) -> list[tuple[int, list[tuple[int, int]]]]:
        """Outputs that share loads: (place of the first, [(distance from there, accumulator)])."""
        found: list[tuple[int, list[tuple[int, int]]]] = []
        for place, acc in self._outputs:
            if found and place - found[-1][0] <= self.shift:
                found[-1][1].append((place - found[-1][0], acc))
            else:
                found.append((place, [(0, acc)]))
        return found

    @cached_property
    def _shifts(self) -> list[int]:
        return sorted({d for _, members in self._sets for d, _ in members})

    @cached_property
    def chunks(self) -> list[tuple[int, list[int]]]:
        """What is loaded: (place from that of a set, the distances whose taps it meets)."""
        taps = [t for t, _ in self.window.taps]
        found: list[tuple[int, list[int]]] = []
        for at in _cover(sorted({t + d for t in taps for d in self._shifts})):
            met = [d for d in self._shifts if any(at <= t + d < at + VECTOR for t in taps)]
            found.append((at, met))
        return found

    @cached_property
    def held(self) -> list[bool]:
        """Of each chunk: whether its vectors of the image stay in registers."""
        sizes = [len(met) for _, met in self.chunks]
        if sum(sizes) <= _HELD:
            return [True] * len(sizes)
        free, held = _HELD + 1 - max(sizes), [False] * len(sizes)
        for i, size in enumerate(sizes):
            if size <= free:
                held[i], free = True, free - size
        return held

    @property
    def fits(self) -> bool:
        most = max(len(met) for _, met in self.chunks)
        return (all(self.held) or most <= _HELD + 1) and self.image_bytes <= MAX_IMAGE

    @cached_property
    def has_image(self) -> bool:
        """In memory; else all vectors are made in their registers."""
        return self.shift_used > 0 or not all(self.held)

    @cached_property
    def shift_used(self) -> int:
        return self._shifts[-1]

    @cached_property
    def parts(self) -> list[tuple[int, list[int]]]:
        """Of the image, 16 bytes each: (place in it, filter tap of each byte or −1)."""
        first, numbers = self.window.taps[0][0], dict(self.window.taps)
        return [
            (at - first + self.shift_used, [numbers.get(at + i, -1) for i in range(VECTOR)])
            for at in _cover([t for t, _ in self.window.taps])
        ]

    def image_at(self, chunk: int, distance: int) -> int:
        return chunk - distance - self.window.taps[0][0] + self.shift_used

    @cached_property
    def image_bytes(self) -> int:
        """Whole vectors, all that is read or written of it."""
        if not self.has_image:
            return 0
        read = max(self.image_at(at, d) for at, met in self.chunks for d in met)
        written = max(at for at, _ in self.parts)
        return -(-(max(read, written) + VECTOR) // VECTOR) * VECTOR

    @property
    def image_origin(self) -> int:
        """Where the pointer to the image rests."""
        return min(self.image_bytes // 2, _REACH)

    @cached_property
    def registers(self) -> list[dict[int, int]]:
        """Of each chunk: the vector register of each distance. q1 and what follows q2, the outputs'
        places, for those that do not stay; then those that do."""
        passing = [len(m) for (_, m), held in zip(self.chunks, self.held, strict=True) if not held]
        names = (1, *range(3, 8))
        found: list[dict[int, int]] = []
        free = max([1, *passing])
        for (_, met), held in zip(self.chunks, self.held, strict=True):
            first = free if held else 0
            found.append({d: names[first + i] for i, d in enumerate(met)})
            free += len(met) if held else 0
        return found

    @property
    def last_register(self) -> int:
        return max(r for of in self.registers for r in of.values())

    @cached_property
    def opening(self) -> list[Op]:
        """Of a channel: ("part", register, offset in the image, 0), ("image", register, offset, 0)
        for what stays, "turn" as in `ops`."""
        if not self.has_image:
            return [("part", of[0], 0, 0) for of in self.registers]
        found: list[Op] = []
        image = _Reach(found, "turn", self.image_origin)
        for at, _ in self.parts:
            found.append(("part", 1, image.offset(at), 0))
        for (at, _), held, of in zip(self.chunks, self.held, self.registers, strict=True):
            for d, register in of.items() if held else ():
                found.append(("image", register, image.offset(self.image_at(at, d)), 0))
        image.back()
        return found

    @cached_property
    def ops(self) -> list[Op]:
        """Of a block: ("image", register, offset, 0), ("load", 0, offset, 0), ("sum", accumulator,
        register, first), ("walk" or "turn", bytes, 0, 0): the pointer to the plane, to the image.
        """
        found: list[Op] = []
        plane, image = _Reach(found, "walk", 0), _Reach(found, "turn", self.image_origin)
        begun: set[int] = set()
        for (at, met), held, of in zip(self.chunks, self.held, self.registers, strict=True):
            for d in met if not held else ():
                found.append(("image", of[d], image.offset(self.image_at(at, d)), 0))
            for place, members in self._sets:
                some = [(d, acc) for d, acc in members if d in met]
                if some:
                    found.append(("load", 0, plane.offset(place + at), 0))
                for d, acc in some:
                    found.append(("sum", acc, of[d], int(acc not in begun)))
                    begun.add(acc)
        image.back()
        return found

    @property
    def walked(self) -> int:
        """By how many bytes a block leaves the pointer to the plane behind."""
        return sum(op[1] for op in self.ops if op[0] == "walk")

    @property
    def reads(self) -> int:
        """Bytes of the plane from its start on that blocks read."""
        last = self.window.place((self.window.rows - 1, self.window.columns - 1))
        return last + self.chunks[-1][0] + VECTOR

    def instructions(self, closing: int) -> int:
        """Of a channel. closing: of those that end a block."""
        down, across = self.tiles
        gathers = 4 if any(self.second) else 2
        turn = 4 + 2 * (self.window.columns % self.columns > 0) if across > 1 else 0
        line = 4 + 2 * (self.window.rows % self.rows > 0) + 3 * (across > 1) if down > 1 else 0
        opening = sum(4 + self.has_image if op == "part" else 1 for op, *_ in self.opening)
        blocks = down * across * (len(self.ops) + gathers + closing + turn)
        return blocks + down * (line + (across > 1)) + 2 * (down > 1) + opening


class _Reach:
    """Offsets from a pointer that an op moves where they are out of reach."""

    def __init__(self, ops: list[Op], move: str, rest: int) -> None:
        self.ops, self.move, self.now, self.rest = ops, move, rest, rest

    def offset(self, want: int) -> int:
        if not -_REACH <= want - self.now <= _REACH:
            self.ops.append((self.move, want - self.now, 0, 0))
            self.now = want
        return want - self.now

    def back(self) -> None:
        if self.now != self.rest:
            self.ops.append((self.move, self.rest - self.now, 0, 0))
            self.now = self.rest


def _cover(places: Sequence[int]) -> list[int]:
    """Where vectors start that cover all places, which ascend."""
    found: list[int] = []
    for place in places:
        if not found or place >= found[-1] + VECTOR:
            found.append(place)
    return found


def _blocks(window: Window) -> Iterator[Block]:
    for columns in range(1, min(4, window.columns) + 1):
        for rows in range(1, min(4 // columns, window.rows) + 1):
            for second in ((0, 0), (rows, 0), (0, columns)):
                if rows + second[0] <= window.rows and columns + second[1] <= window.columns:
                    for shift in range(_MAX_SHIFT + 1):
                        yield Block(window, (rows, columns), second, shift)


@lru_cache(maxsize=512)
def best_block(window: Window, closing: int) -> Block | None:
    """The one of fewest instructions for a channel; None where the filter's image is too long.
    closing: instructions that end a block."""
    fitting = [b for b in _blocks(window) if b.fits]
    return min(fitting, key=lambda b: b.instructions(closing), default=None)

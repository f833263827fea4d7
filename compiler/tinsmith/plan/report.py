"""The arena as text: a map for terminals, and its legend."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterator, Sequence

from .model import MemoryPlan, Placed, bound_line, short_name

_SYMBOLS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_FREE, _SCRATCH, _OVERLAP = "·", "#", "%"
_GUTTER = 11


def arena_map(plan: MemoryPlan, *, width: int = 100, rows: int = 16, legend: bool = True) -> str:
    """The arena over time: a row per band of offsets, highest first; a column per step.

    The first column is the time before the first node, the last that after the last. Many steps are
    shown in several panels. No line is longer than `width` (at least 50).
    """
    steps = range(-1, len(plan.order) + 1)
    symbols = _symbols(plan.placed)
    cell = max(1, min(4, (width - _GUTTER) // len(steps)))
    per_panel = (width - _GUTTER) // cell
    lines = [plan.summary()]
    if plan.bound_counts:
        line = bound_line(plan.strategy, plan.bound_counts, plan.gap)
        lines += textwrap.wrap(line, width)
    for start in range(0, len(steps), per_panel):
        lines += ["", *_panel(plan, symbols, steps[start : start + per_panel], cell, rows)]
    if legend:
        lines += ["", *_legend(plan, symbols, width)]
        shared = f"{_OVERLAP} an" if cell == 1 else "two letters in a step: an"
        lines.append(f"{_FREE} free   {shared} output over its node's dying input")
    return "\n".join(lines)


def _symbols(placed: Sequence[Placed]) -> list[str]:
    names: list[str] = []
    for p in placed:
        used = len(names) - names.count(_SCRATCH)
        names.append(_SCRATCH if p.buffer.is_scratch else _SYMBOLS[used % len(_SYMBOLS)])
    return names


def _panel(
    plan: MemoryPlan, symbols: Sequence[str], steps: range, cell: int, rows: int
) -> Iterator[str]:
    rows = max(1, min(rows, -(-plan.arena_bytes // plan.alignment)))
    edges = [plan.arena_bytes * i // rows for i in range(rows + 1)]
    named = list(zip(plan.placed, symbols, strict=True))
    live = [[(p, s) for p, s in named if p.buffer.live_at(step)] for step in steps]
    for low, high in reversed(list(itertools.pairwise(edges))):
        cells = (_cell(held, (low, high), cell) for held in live)
        yield f"{low:>{_GUTTER - 2},} │" + "".join(cells)
    yield " " * (_GUTTER - 1) + "└" + "─" * (cell * len(steps))
    yield f"{'step':>{_GUTTER - 2}}  " + _ruler(steps, cell)[: cell * len(steps)].rstrip()


def _cell(live: Sequence[tuple[Placed, str]], band: tuple[int, int], cell: int) -> str:
    """Of what is live the buffer that covers most of the band; where an output covers it too, both,
    older first."""
    covers: list[tuple[int, int, int, int, str]] = []
    for p, symbol in live:
        start, end = max(p.offset, band[0]), min(p.end, band[1])
        if start < end:
            covers.append((end - start, p.buffer.first, start, end, symbol))
    if not covers:
        return _FREE * cell
    most = max(covers)
    both = sorted(
        (c for c in covers if max(c[2], most[2]) < min(c[3], most[3])), key=lambda c: c[1]
    )
    if len(both) == 1:
        return most[4] * cell
    if cell == 1:
        return _OVERLAP
    return both[0][4] * (cell // 2) + both[-1][4] * (cell - cell // 2)


def _ruler(steps: range, cell: int) -> str:
    text = ""
    for column, step in enumerate(steps):
        if step >= 0 and step % (5 if cell < 3 else 2) == 0:
            text = f"{text:<{column * cell}}"
            text += str(step) if len(text) == column * cell else ""
    return text


def _legend(plan: MemoryPlan, symbols: Sequence[str], width: int) -> Iterator[str]:
    rows = [("", "bytes", "offset", "steps", "buffer")]
    for p, symbol in zip(plan.placed, symbols, strict=True):
        b = p.buffer
        first = "in" if b.first < 0 else str(b.first)
        last = "out" if b.last >= len(plan.order) else str(b.last)
        span = first if first == last else f"{first}–{last}"
        name = short_name(b.name, 60) + (" (scratch)" if b.is_scratch else "")
        rows.append((symbol, f"{b.bytes:,}", f"{p.offset:,}", span, name))
    sizes = [max(len(row[i]) for row in rows) for i in range(4)]
    for row in rows:
        line = f"{row[0]:<{sizes[0]}} {row[1]:>{sizes[1]}} {row[2]:>{sizes[2]}} "
        line += f"{row[3]:>{sizes[3]}}  {row[4]}"
        yield line if len(line) <= width else line[: width - 1] + "…"

"""What `tinsmith lab` says: rows of a table, the same in Markdown, and JSON."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from .cell import CellResult

COLUMNS = (
    "model", "board", "result", "samples", "flash", "RAM", "stack", "instructions", "µs", "seconds",
)  # fmt: skip
TEXT_COLUMNS = 3


def row(result: CellResult) -> tuple[object, ...]:
    """The cells of `COLUMNS`; flash, RAM and stack in bytes, instructions and µs per inference."""
    return (
        result.model,
        result.board,
        outcome(result),
        result.samples,
        result.flash_bytes,
        result.ram_bytes,
        result.stack_bytes,
        result.instructions_per_inference,
        result.latency_us,
        result.seconds,
    )


def outcome(result: CellResult) -> str:
    if not result.ok:
        return f"{result.stage} failed"
    return "ok, as before" if result.kept else "ok"


def as_data(results: Sequence[CellResult]) -> dict[str, object]:
    """`lab.json`."""
    return {"ok": all(r.ok for r in results), "cells": msgspec.to_builtins(list(results))}


def as_markdown(results: Sequence[CellResult]) -> str:
    """`lab.md`: the table, and the whole errors under it."""
    lines = [_line(COLUMNS)]
    lines.append(_line(["---"] * TEXT_COLUMNS + ["---:"] * (len(COLUMNS) - TEXT_COLUMNS)))
    lines += [_line([_text(value) for value in row(result)]) for result in results]
    for result in results:
        if result.error is not None:
            lines += ["", f"{result.model} on {result.board}, {result.stage}:", ""]
            lines += [f"    {line}" for line in result.error.splitlines()]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _text(value: object) -> str:
    if value is None:
        return ""
    text = f"{value:,}" if isinstance(value, int | float) else str(value)
    return text.replace("|", "\\|")

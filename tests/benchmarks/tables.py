"""Tables in Markdown, and where a page has its measured ones: between two markers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path


def markdown(columns: Sequence[str], rows: Iterable[Sequence[object]], left: int = 1) -> str:
    """left: columns of words; the others are numbers, int with separators."""
    lines = [
        "| " + " | ".join(columns) + " |",
        "|" + " --- |" * left + " ---: |" * (len(columns) - left),
    ]
    for row in rows:
        texts = (f"{c:,}" if isinstance(c, int) else str(c) for c in row)
        lines.append("| " + " | ".join(texts) + " |")
    return "\n".join(lines)


def write_between(path: Path, name: str, text: str) -> None:
    """Replace what is between the markers `<!-- name:begin -->` and `<!-- name:end -->`."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, _, rest = path.read_text().partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"{path} has no {begin} … {end}")
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}")

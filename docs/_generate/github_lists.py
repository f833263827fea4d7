"""Lists as GitHub reads them, for Python-Markdown.

GitHub (CommonMark) has the text of an item start where its first line does, two or three columns
in; Python-Markdown wants four, and empty lines before a list and around a block of code. Without
them a block of code inside an item would end the list.
"""

from __future__ import annotations

import re

_ITEM = re.compile(r"( *)([-*+]|\d+\.)( +)(?=\S)")
_FENCE = re.compile(r" *(```+|~~~+)")
_STEP = 4


def indent(text: str) -> str:
    """The same page with four columns for each level of a list."""
    lines: list[str] = []
    open_items: list[int] = []  # the column where the text of each item begins
    fence, shift = "", 0
    for line in text.split("\n"):
        if fence:
            lines.append(_moved(line, shift))
            if line.strip() == fence:
                fence = ""
                lines.append("")
            continue
        if not line.strip():
            lines.append(line)
            continue
        column = len(line) - len(line.lstrip(" "))
        item = _ITEM.match(line)
        # A line that belongs to a paragraph of an item may begin anywhere, after an empty line not.
        if item or not lines or not lines[-1].strip():
            while open_items and column < open_items[-1]:
                open_items.pop()
        depth = len(open_items)
        if item:
            _separate(lines, depth)
            lines.append(" " * _STEP * depth + item[2] + " " + line[item.end() :])
            open_items.append(item.end())
            continue
        if depth == 0:
            lines.append(line)
        else:
            shift = _STEP * depth - open_items[-1]
            lines.append(_moved(line, shift) if column else line)
        opened = _FENCE.match(line)
        if opened and len(lines) > 1 and lines[-2].strip():
            lines.insert(-1, "")
        fence, shift = (opened[1], shift if depth else 0) if opened else ("", 0)
    return "\n".join(lines)


def _moved(line: str, shift: int) -> str:
    if not line.strip():
        return line
    return " " * shift + line if shift >= 0 else line[-shift:]


def _separate(lines: list[str], depth: int) -> None:
    """An empty line between a paragraph and the list that follows it at once."""
    if depth == 0 and lines and lines[-1].strip() and not _ITEM.match(lines[-1]):
        previous = lines[-1]
        if not previous.startswith(" "):
            lines.append("")

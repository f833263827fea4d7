"""What `mkdocs build` runs: adds the generated reference, and reads lists as GitHub does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import command_line
import github_lists
import keys
import python_api
from mkdocs.structure.files import File, Files


def on_config(config: Any) -> Any:
    """Puts every decision where the navigation says `decisions/`, under its own heading."""
    folder = Path(config.docs_dir) / "decisions"
    config.nav = [
        {name: [{_heading(p): f"decisions/{p.name}"} for p in sorted(folder.glob("*.md"))]}
        if target == "decisions/"
        else {name: target}
        for entry in config.nav
        for name, target in entry.items()
    ]
    return config


def _heading(page: Path) -> str:
    """`# Decision 3: One rounding` without the number, which the order shows."""
    first = page.read_text(encoding="utf-8").split("\n", 1)[0]
    return re.sub(r"^#\s*(Decision\s*)?(\d+[.:]?\s*)?", "", first)


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages that are made from the code; they are never written to disk."""
    pages = {
        "reference/cli.md": command_line.page(),
        "reference/python.md": python_api.page(),
        **{f"reference/{name}.md": text for name, text in keys.pages().items()},
    }
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Pages are written for GitHub; the site's reader wants list items indented by four."""
    return github_lists.indent(markdown)

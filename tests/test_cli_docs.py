"""docs/cli.md names every command and every option that the command line has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from tinsmith.cli import app

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "cli.md").read_text(encoding="utf-8")
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
EVERYWHERE = "Options that several commands share:"


def _paragraph(start: str) -> str:
    """From `start` to the next empty line."""
    return PAGE[PAGE.index(start) :].split("\n\n")[0]


def _text(command: str) -> str:
    """The entries of a command: those that begin with its name."""
    entries = re.split(r"\n(?=- |\n)", PAGE)
    named = [e for e in entries if re.match(rf"\n*- (`[a-z-]+`, )*`{command}[ `]", e)]
    assert named, f"docs/cli.md has no entry for {command}"
    return "\n".join(named)


def _options(command: str) -> list[str]:
    """The long names, of a switch the one that is not its default."""
    found = []
    for parameter in COMMANDS[command].params:
        if parameter.param_type_name == "option":
            long = [o for o in parameter.opts if o.startswith("--")]
            off = parameter.secondary_opts if parameter.default is True else []
            found += off or long or parameter.opts
    return [o for o in found if o != "--help"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_documented(command: str) -> None:
    text = _text(command) + _paragraph(EVERYWHERE)
    short = {"--output": "-o"}
    missing = [
        option
        for option in _options(command)
        if not re.search(rf"{option}\b(?!-)", text)
        and not (option in short and re.search(rf"{short[option]}\b", text))
    ]
    assert not missing, f"docs/cli.md says nothing of {command} {', '.join(missing)}"


def test_every_documented_option_exists() -> None:
    known = {o for command in COMMANDS for o in _options(command)}
    known |= {o for c in COMMANDS.values() for p in c.params for o in (*p.opts, *p.secondary_opts)}
    known |= {"--help", "--install-completion", "--version"}
    unknown = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", PAGE)) - known
    assert not unknown


def test_the_check_would_notice() -> None:
    assert "--calibrate" in _options("quantize")
    assert not re.search(r"--fine\b(?!-)", "--fine-tune")
    with pytest.raises(AssertionError, match="no entry"):
        _text("nothing")

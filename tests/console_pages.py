"""Executes the console blocks of a page of `docs/` and holds it to the output that it shows.

A block is ```` ```console ````: lines with `$` are commands, the lines below one what it prints.
`…` at an end of a line, or alone, stands for anything; a number behind `~` may be a quarter off.
A command that prints `error:` must fail, every other one must not. A file that a page gives (its
name in backticks, then a block) lies in the folder before the first command below it.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tinsmith.cli import app

DOCS = Path(__file__).resolve().parents[1] / "docs"
_BLOCK = re.compile(
    r"(?:^ *`([\w./-]+)`\n\n)?^( *)```(\w+)\n(.*?)^\2```$", re.MULTILINE | re.DOTALL
)
_NUMBER = r"(-?[\d,]*\.?\d+)"
_TOLERANCE = 0.25
_FRAME = re.compile(r"[\s│┃━─┏┓┡┩└┘┳╇┴╈]+")


@dataclass
class Step:
    """A command or, without one, a file; and what the page shows of it."""

    command: str = ""
    shown: list[str] = field(default_factory=list)
    name: str = ""
    text: str = ""


def steps(page: str) -> list[Step]:
    """The files and commands of a page of `docs/`, in its order."""
    found: list[Step] = []
    for name, _, language, inner in _BLOCK.findall((DOCS / page).read_text(encoding="utf-8")):
        text = textwrap.dedent(inner)
        if name:
            found.append(Step(name=name, text=text))
        elif language == "console":
            for line in text.splitlines():
                if line.startswith("$ "):
                    found.append(Step(line.removeprefix("$ ")))
                else:
                    found[-1].shown.append(line)
    return found


def follow(
    page: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    skip: frozenset[str] = frozenset(),
    fresh: bool = False,
) -> int:
    """Does everything that a page says, starting in `folder`; how many commands that were.

    skip: names of files that are not written. fresh: the page changes tinsmith itself, so every
    command is a process of its own.
    """
    monkeypatch.chdir(folder)
    commands = 0
    for step in steps(page):
        if step.command.startswith("cd "):
            monkeypatch.chdir(Path.cwd() / step.command.removeprefix("cd "))
        elif step.command:
            code, printed = execute(step.command, fresh)
            failed = any(line.startswith("error:") for line in step.shown)
            assert (code != 0) == failed, f"$ {step.command}\n{printed}"
            assert not (problem := differs(step.shown, printed)), f"$ {step.command}\n{problem}"
            commands += 1
        elif step.name not in skip:
            Path(step.name).parent.mkdir(parents=True, exist_ok=True)
            Path(step.name).write_text(step.text, encoding="utf-8")
    return commands


def execute(command: str, fresh: bool = False) -> tuple[int, str]:
    """The exit code of a command, and what it prints.

    tinsmith runs in this process, where it starts quicker, unless `fresh`.
    """
    words = shlex.split(command)
    if words[0] == "tinsmith" and fresh:
        command = shlex.join([sys.executable, "-m", *words])
    elif words[0] == "tinsmith":
        done = CliRunner().invoke(app, words[1:])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.output
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    result = subprocess.run(
        ["sh", "-c", command],
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    return result.returncode, result.stdout + result.stderr


def differs(shown: list[str], printed: str) -> str:
    """Where what a page shows is not what was printed; "" where it is.

    Lines match in order and without gaps but at `…`; blanks and the frames of tables do not count.
    """
    lines = [text for line in printed.splitlines() if (text := _plain(line))]
    at, gap = 0, False
    for line in shown:
        wanted = _plain(line)
        if wanted == "…":
            gap = True
            continue
        found = [i for i in range(at, len(lines)) if _same(wanted, lines[i])]
        if not found or (not gap and found[0] != at):
            return f"the page says\n  {line}\nwhere there is\n" + "\n".join(lines[at:])
        at, gap = found[0] + 1, False
    if not gap and at < len(lines) and shown:
        return "the page ends before\n" + "\n".join(lines[at:])
    return ""


def _plain(line: str) -> str:
    return _FRAME.sub(" ", line).strip()


def _same(wanted: str, line: str) -> bool:
    """Whether a line is as shown: equal, but for `~` and a `…` at its end."""
    numbers = [float(n.replace(",", "")) for n in re.findall(f"~{_NUMBER}", wanted)]
    pattern = _NUMBER.join(re.escape(part) for part in re.split(r"~-?[\d,]*\.?\d+", wanted))
    if wanted.endswith("…"):
        pattern = pattern.removesuffix(re.escape("…")).removesuffix(re.escape(" ")) + ".*"
    match = re.fullmatch(pattern, line)
    if match is None:
        return False
    values = (float(n.replace(",", "")) for n in match.groups())
    return all(abs(v - n) <= _TOLERANCE * n for v, n in zip(values, numbers, strict=True))

"""The page of every command and option, from the typer application that parses them."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import typer

from tinsmith.cli import app
from tinsmith.commands.examples import EXAMPLES

_KINDS = {int: "INTEGER", float: "NUMBER", Path: "PATH"}
_HEAD = """# Every command and option

Generated from the program itself, as `--help` has it.
[Command line](../cli.md) explains what the commands do and when to use them.
"""


def commands() -> dict[str, Any]:
    """The click commands by name, in the order of `tinsmith --help`."""
    return typer.main.get_command(app).commands  # type: ignore[attr-defined]


def page() -> str:
    """The whole page as Markdown."""
    return "\n".join([_HEAD, *(_command(name, command) for name, command in commands().items())])


def _command(name: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and not p.hidden]
    usage = " ".join(["tinsmith", name, *(_argument(a) for a in arguments), "[OPTIONS]"])
    rows = [f"| `{_argument(a)}` | {_cell(a.help)} | |" for a in arguments]
    rows += [_option(o) for o in options if "--help" not in o.opts]
    text = [f"## {name}", "", inspect.cleandoc(command.help or ""), "", "```console", f"$ {usage}"]
    text += [f"$ tinsmith {example}" for example in EXAMPLES.get(name, ())]
    text += ["```", ""]
    if rows:
        text += ["| | meaning | default |", "| --- | --- | --- |", *rows, ""]
    return "\n".join(text)


def _argument(argument: Any) -> str:
    name = (argument.metavar or argument.name.upper()).strip("[]").removesuffix("...")
    many = "…" if argument.nargs == -1 else ""
    return f"{name}{many}" if argument.required else f"[{name}]{many}"


def _option(option: Any) -> str:
    names = ", ".join(f"`{o}`" for o in sorted((*option.opts, *option.secondary_opts), key=_rank))
    value = "" if option.is_flag else f" `{option.metavar or _kind(option)}`"
    more = "; repeatable" if option.multiple and "repeatable" not in (option.help or "") else ""
    return f"| {names}{value} | {_cell(option.help)}{more} | {_default(option)} |"


def _kind(option: Any) -> str:
    return _KINDS.get(option.type_descriptor.annotation, "TEXT")


def _rank(name: str) -> tuple[bool, str]:
    """Long names first."""
    return (not name.startswith("--"), name.removeprefix("--no-"))


def _default(option: Any) -> str:
    if option.required:
        return "required"
    value = option.default
    if value is None or callable(value) or value in ("", [], ()):
        return ""
    if isinstance(value, bool):
        return "on" if value else ""
    return f"`{value}`"


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")

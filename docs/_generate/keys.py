"""The pages of the files with keys, from the structs that read them and their docstrings."""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import command_line
import msgspec
from docstrings import fields_of

from tinsmith.codegen.report_model import Report
from tinsmith.machine.board import BoardFile
from tinsmith.machine.target import TargetFile
from tinsmith.machine.trust_zone import TrustZone
from tinsmith.project_file import Build
from tinsmith.train.scheme import Scheme

_PLAIN: Mapping[Any, str] = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "true or false",
    types.NoneType: "null",
}


@dataclass(frozen=True)
class Page:
    """A file: its structs, the first being the whole of it, and what to say besides."""

    title: str
    about: str
    roots: tuple[type[msgspec.Struct], ...]
    more: Mapping[str, str]


def pages() -> dict[str, str]:
    """Markdown by the name of the page, without `.md`."""
    return {name: _page(page) for name, page in described().items()}


def described() -> dict[str, Page]:
    return {
        "board-toml": Page(
            "board.toml",
            "A board: `boards/<name>/board.toml`. [How to add one](../add-a-board.md). A board "
            "with TrustZone has `trust.toml` beside it, [whose keys](#trusttoml) come last.",
            (BoardFile, TrustZone),
            {"name": "the folder's name", "description": "shown by `tinsmith boards`"},
        ),
        "target-toml": Page(
            "target.toml",
            "An instruction set and its compiler: `targets/<name>/target.toml`. "
            "[How to add one](../add-a-target.md).",
            (TargetFile,),
            {"name": "the folder's name", "description": "shown by `tinsmith targets`"},
        ),
        "update-toml": Page(
            "update.toml",
            "What of a model learns on the device, and how: the file of `compile --train`. "
            "[Training](../training.md) explains rules and schemes; [train-plan](../train-plan.md) "
            "writes such a file.",
            (Scheme,),
            {},
        ),
        "tinsmith-toml": Page(
            "tinsmith.toml",
            "What [`tinsmith build`](../cli.md#compiling) compiles. Keys outside of tables "
            "hold for every `[build.NAME]`.",
            (Build,),
            _compile_options(),
        ),
        "report-json": Page(
            "report.json",
            "What `compile` writes into its folder, and `bench` and `report` fill in. In Python: "
            "`project.report`. What is null was not measured yet, or is not there. "
            "`schema_version` goes up when a key changes its meaning or goes.",
            (Report,),
            {},
        ),
    }


def _compile_options() -> dict[str, str]:
    """What `tinsmith compile --help` says of the option that a key stands for."""
    found = {"model": "an ONNX model"}
    for option in command_line.commands()["compile"].params:
        for name in option.opts:
            if name.startswith("--"):
                found[name.removeprefix("--").replace("-", "_")] = option.help or ""
    return found


def structs(root: type[msgspec.Struct]) -> list[type[msgspec.Struct]]:
    """The struct and those that its fields hold, each once, in order of appearance."""
    found = [root]
    for struct in found:
        for hint in get_type_hints(struct).values():
            found += [s for s in _inside(hint) if s not in found]
    return found


def _inside(hint: Any) -> Iterable[type[msgspec.Struct]]:
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        yield hint
    for part in get_args(hint):
        yield from _inside(part)


def meanings(struct: type[msgspec.Struct]) -> tuple[str, dict[str, str]]:
    """What the docstring says of the whole, and of each field."""
    return fields_of(struct, struct.__struct_fields__)


def _page(page: Page) -> str:
    text = [f"# {page.title}", "", page.about, ""]
    for root in page.roots:
        for struct in structs(root):
            text += _table(struct, struct is page.roots[0], page.more)
    return "\n".join(text)


def _table(struct: type[msgspec.Struct], whole: bool, more: Mapping[str, str]) -> list[str]:
    about, known = meanings(struct)
    heading = "Keys" if whole else _title(struct)
    text = [f"## {heading}", "", _escaped(about), "", "| key | meaning | value | default |"]
    text.append("| --- | --- | --- | --- |")
    hints = get_type_hints(struct)
    for field in msgspec.structs.fields(struct):
        meaning = known.get(field.name) or more.get(field.name, "")
        value = _escaped(_type(hints[field.name]))
        cells = (f"`{field.encode_name}`", _escaped(meaning), value, _default(field))
        text.append("| " + " | ".join(cells) + " |")
    return [*text, ""]


def _title(struct: type[msgspec.Struct]) -> str:
    """The name of a struct as a heading; of a file's own struct the file's."""
    return {"TrustZone": "trust.toml"}.get(struct.__name__, struct.__name__)


def _type(hint: Any) -> str:
    origin, inside = get_origin(hint), get_args(hint)
    if hint in _PLAIN:
        return _PLAIN[hint]
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        title = _title(hint)
        return f"[{title}](#{title.lower().replace('.', '')})"
    if origin is Literal:
        return ", ".join(f"`{v}`" if v != "" else "nothing" for v in inside)
    if origin in (Union, types.UnionType):
        return " or ".join(_type(part) for part in inside if part is not types.NoneType)
    if origin is dict:
        return f"table of {_type(inside[1])}"
    if origin is tuple and inside[-1] is not Ellipsis:
        return "[" + ", ".join(_type(part) for part in inside) + "]"
    return f"list of {_type(inside[0])}"


def _default(field: Any) -> str:
    if field.required:
        return "required"
    value = field.default
    if value is msgspec.NODEFAULT or value in (None, "", (), []):
        return ""
    if isinstance(value, msgspec.Struct):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")

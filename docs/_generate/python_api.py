"""The page of the Python API, from the signatures and docstrings of what `tinsmith` promises."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from typing import Any

from docstrings import fields_of

import tinsmith
from tinsmith import errors

_HEAD = """# Python API

Generated from the code. Functions take a project or its folder. Nothing that is not on this page
is promised to stay.

```python
import tinsmith

project = tinsmith.compile("model.onnx", board="mps2-an500", calibrate="calibration.npz", out="out")
tinsmith.verify(project, "samples.npz").check()  # raises VerificationFailed
print(tinsmith.run(project, "samples.npz").outputs)
```
"""

_RETURNED = "`Report`, also `project.report`, has the keys of [report.json](report-json.md)."


def page() -> str:
    """The whole page as Markdown."""
    text = [_HEAD, "## Functions", ""]
    for name in tinsmith.__all__:
        text += _function(name, getattr(tinsmith, name))
    text += ["## What they return", "", _RETURNED, ""]
    for cls in returned():
        text += _class(cls)
    text += ["## Errors", "", _prose(errors.CompileError), ""]
    text += ["| error | exit code | when |", "| --- | ---: | --- |"]
    text += [_error(cls) for cls in _errors()]
    return "\n".join([*text, ""])


def returned() -> list[type]:
    """The classes that the functions return, each once; `Report` has a page of its own."""
    found: list[type] = []
    for name in tinsmith.__all__:
        hint = typing.get_type_hints(getattr(tinsmith, name))["return"]
        if isinstance(hint, type) and dataclasses.is_dataclass(hint) and hint not in found:
            found.append(hint)
    return found


def _function(name: str, function: Any) -> list[str]:
    signature = inspect.signature(function)
    lines = [f"    {_parameter(p)}," for p in signature.parameters.values()]
    keywords = [i for i, p in enumerate(signature.parameters.values()) if p.kind is p.KEYWORD_ONLY]
    if keywords:
        lines.insert(keywords[0], "    *,")
    back = signature.return_annotation
    code = "\n".join([f"tinsmith.{name}(", *lines, f") -> {back}"])
    return [f"### {name}", "", f"```python\n{code}\n```", "", _prose(function), ""]


def _parameter(parameter: inspect.Parameter) -> str:
    default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
    return f"{parameter.name}: {parameter.annotation}{default}"


def _class(cls: type) -> list[str]:
    fields = dict(_fields(cls))
    about, meanings = fields_of(cls, list(fields))
    rows = [f"| `{n}` | {_code(k)} | {_cell(meanings.get(n, ''))} |" for n, k in fields.items()]
    for name, member in inspect.getmembers(cls):
        if name.startswith("_") or name in fields:
            continue
        if isinstance(member, property):
            returns = inspect.signature(member.fget).return_annotation  # type: ignore[arg-type]
            rows.append(f"| `{name}` | {_code(returns)} | {_line(member)} |")
        elif inspect.isfunction(member):
            returns = inspect.signature(member).return_annotation
            rows.append(f"| `{name}()` | {_code(returns)} | {_line(member)} |")
    head = ["| | type | meaning |", "| --- | --- | --- |"]
    return [f"### {cls.__name__}", "", _cell(about), "", *head, *rows, ""]


def _fields(cls: type) -> list[tuple[str, Any]]:
    return [(f.name, f.type) for f in dataclasses.fields(cls) if not f.name.startswith("_")]


def _errors() -> list[type[errors.CompileError]]:
    found = [errors.CompileError]
    for cls in found:
        found += [c for c in cls.__subclasses__() if c.__module__.startswith("tinsmith")]
    return found


def _error(cls: type[errors.CompileError]) -> str:
    where = f"{cls.__module__}.{cls.__name__}"
    return f"| `{where}` | {cls.exit_code} | {_line(cls)} |"


def _prose(thing: Any) -> str:
    """A docstring as Markdown: `Args:` as a list, examples as code."""
    text = inspect.getdoc(thing) or ""
    text = re.sub(r"(?m)^(Args|Raises|Returns):\n", r"**\1**\n\n", text)
    return re.sub(r"(?m)^    (\w[\w, ]*): ", r"- `\1`: ", text)


def _line(thing: Any) -> str:
    """The first paragraph, on one line."""
    return _cell(" ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split()))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _code(annotation: Any) -> str:
    name = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    return f"`{name}`".replace("|", "\\|") if name else ""

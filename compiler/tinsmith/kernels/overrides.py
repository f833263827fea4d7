"""The user's own choice of kernels: a TOML file, node = kernel."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path

import msgspec

from ..errors import BadInput, CompileError
from .aim import Aim, names_of
from .select import Candidates, Selection


class _File(msgspec.Struct, forbid_unknown_fields=True):
    kernels: dict[str, str]


def read_overrides(path: str | PathLike[str] | None) -> Mapping[str, str]:
    """Kernel by node; none without a file. Raises BadInput for a file that is not of this form."""
    if path is None:
        return {}
    path = Path(path)
    expected = 'a TOML file with a table [kernels] of lines "NODE" = "KERNEL"'
    hint = "`tinsmith analyze --write-kernels F.toml` writes one"
    if not path.is_file():
        raise BadInput(f"there is no file {path}", expected=expected, hint=hint)
    try:
        return msgspec.toml.decode(path.read_bytes(), type=_File).kernels
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: {error}", expected=expected, hint=hint) from error


def write_overrides(path: Path, selection: Selection, title: str) -> None:
    """Every choice, with the other kernels of the node. Raises BadInput when it cannot be written.

    title: of what they were chosen for.
    """
    lines = [
        f"# {title}. For `tinsmith compile --kernels`; a line that is left out",
        "# is chosen.",
    ]
    lines.append("[kernels]")
    for chosen in selection.chosen:
        name = chosen.node.name
        others = [c.kernel.name for c in selection.candidates[name] if c is not chosen]
        comment = f"  # or {', '.join(others)}" if others else ""
        lines.append(f"{json.dumps(name)} = {json.dumps(chosen.kernel.name)}{comment}")
    try:
        path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    except OSError as error:
        raise BadInput(f"cannot write {path}: {error.strerror}") from error


def check_overrides(candidates: Candidates, aim: Aim) -> None:
    """Raises CompileError for a node that is not there or a kernel that it cannot have."""
    found = list(candidates.values())
    names = {n for each in found for n in names_of(each[0].node)}
    for name, wanted in aim.pins.items():
        meant = [each for each in found if name in names_of(each[0].node)]
        if not meant:
            raise CompileError(
                f"no node {name!r} runs a kernel",
                expected=_some(difflib.get_close_matches(name, names, 5, 0.0)),
                hint="`tinsmith analyze --write-kernels F.toml` names all of them",
                where="select_kernels",
            )
        # Where the rows of a node are computed by several nodes, others only move them.
        if not any(c.kernel.name == wanted for each in meant for c in each):
            raise CompileError(
                f"kernel {wanted} cannot compute this node on this target",
                node=str(meant[0][0].node.origin),
                expected=_some(c.kernel.name for c in meant[0]),
                hint=f"change or leave out the line of {name!r}",
                where="select_kernels",
            )


def _some(names: Iterable[str]) -> str:
    return f"one of {', '.join(names)}"

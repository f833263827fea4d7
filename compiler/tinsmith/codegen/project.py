"""Writes the compiled project: sources, the runtime's headers, CMakeLists.txt, graph.tin."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from .. import __version__, paths
from ..errors import CompileError
from ..ir.graph import Graph
from ..ir.parser import parse
from ..ir.printer import print_graph
from ..ops import registry
from .emit import Program, model_view, render_model
from .environment import render

GRAPH_FILE = "graph.tin"


def write_project(folder: Path, program: Program) -> int:
    """Write into `folder`, which is made when it is missing; other files in it stay.

    Returns the bytes of the constants. Raises CompileError when the folder cannot be written.
    """
    view = model_view(program)
    files = render_model(view)
    names = {"name": program.c_name, "version": __version__, "needs_math": _uses_math(files)}
    files |= {
        "CMakeLists.txt": render("codegen/CMakeLists.txt.j2", names),
        GRAPH_FILE: print_graph(program.graph),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in sorted(files.items()):
            (folder / name).write_text(text, encoding="utf-8", newline="\n")
        runtime = folder / "runtime" / "include"
        shutil.copytree(paths.RUNTIME_C / "include", runtime, dirs_exist_ok=True)
    except OSError as error:
        raise CompileError(f"cannot write the project: {error}") from error
    return view.weights_bytes


def read_graph(folder: Path) -> Graph:
    """The planned graph of a compiled project: the oracle's input."""
    path = folder / GRAPH_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise CompileError(
            f"{folder} is not a compiled project: {error}",
            expected=f"a folder with {GRAPH_FILE}",
            hint="make one with `tinsmith compile MODEL.onnx --board BOARD -o DIR`",
        ) from error
    return parse(text, registry())


def _uses_math(files: dict[str, str]) -> bool:
    return any(re.search(r"#include <math\.h>", text) for text in files.values())

"""The command that puts a model into the form that a build system takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..packages.kinds import KINDS
from ..packages.write import write_package
from .console import out, print_json, reported
from .options import AsJson, Project

_KINDS = ", ".join(KINDS)


@reported
def package(
    project: Project,
    kinds: Annotated[
        list[str], typer.Option("--kind", metavar="KIND", help=f"{_KINDS}; repeatable")
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", metavar="DIR", help="by default DIR/packages; a folder per kind in it"),
    ] = None,
    version: Annotated[
        str, typer.Option("--package-version", metavar="X.Y.Z", help="of the package")
    ] = "1.0.0",
    url: Annotated[str, typer.Option("--url", help="home page of the package")] = "",
    json: AsJson = False,
) -> None:
    """Write a model as a library for a build system: CMake, Zephyr, Arduino and others."""
    root = output or project / "packages"
    made = {
        kind: write_package(project, kind, root / kind, version=version, url=url) for kind in kinds
    }
    if json:
        print_json({kind: [str(path) for path in paths] for kind, paths in made.items()})
        return
    for kind, paths in made.items():
        out().print(f"{KINDS[kind].description}: {', '.join(map(str, paths))}", markup=False)

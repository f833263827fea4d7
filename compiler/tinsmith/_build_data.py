"""Puts the data folders of the source tree into the wheel, as `tinsmith/_data`.

The build loads this file by its path, so it must not import the package.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from setuptools.command.build_py import build_py

FOLDERS = ("runtime_c", "targets", "boards", "graphs")
LICENCE = "LICENSE"  # of the files that a package of a model holds


def _files() -> Iterator[Path]:
    """Every data file, relative to the root of the tree (the build's working directory)."""
    for folder in FOLDERS:
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path
    yield Path(LICENCE)


class BuildPy(build_py):
    """The usual build, then a copy of the data. An editable install reads the tree itself."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib, "tinsmith", "_data")
        shutil.rmtree(target, ignore_errors=True)
        for path in _files():
            copy = target / path
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)

    def get_source_files(self) -> list[str]:
        """What a source distribution must hold for this to work again."""
        return [*super().get_source_files(), *(str(path) for path in _files())]

"""Builds the QEMU plugin that counts executed blocks, once, into the user's cache."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from .. import paths
from ..errors import InternalError
from .programs import find_program, run_program, tail

_SOURCE = paths.RUNTIME_C / "qemu" / "ts_histogram.c"


def histogram_plugin(version: int) -> Path:
    """The shared object for QEMU's plugin interface `version`. Raises MissingTool without gcc."""
    digest = hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:16]
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tinsmith"
    library = root / f"libts_histogram-{version}-{digest}.so"
    if library.is_file():
        return library
    gcc = find_program("gcc", ["gcc", "libc6-dev"], "counting executed blocks")
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root) as folder:
        made = Path(folder) / "plugin.so"
        flags = ["-std=c11", "-O2", "-fPIC", "-shared", f"-DTS_PLUGIN_VERSION={version}"]
        done = run_program([gcc, *flags, "-o", made, _SOURCE], Path(folder))
        if done.returncode != 0:
            raise InternalError(f"gcc cannot build the QEMU plugin:\n{tail(done.stderr)}")
        made.replace(library)
    return library

"""Runs PrimFuncs on this machine, compiled as they are for a board: tests, measurements, self-test.

Parallel loops run on the caller alone, their tasks one after the other, the last one first.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..errors import MissingTool
from ..ir.dtypes import Array
from ..machine.target import Isa
from .import_tvm import PrimFunc
from .native import compile_object

_LAUNCH = """
#include <stdint.h>
typedef struct { void *sync; int32_t tasks; } group;
typedef int (*body)(int task, group *env, void *closure);
static int launch(body run, void *closure, int tasks)
{
    group env = {0, TASKS};
    int failed = 0;
    (void)tasks;
    for (int task = TASKS - 1; task >= 0; task--) {
        failed |= run(task, &env, closure);
    }
    return failed;
}
int (*__TVMBackendParallelLaunch)(body, void *, int) = launch;
"""
_ALIGNMENT = 64


class Library:
    """Compiled functions by name, in a shared library that lives as long as this object."""

    def __init__(self, functions: Mapping[str, PrimFunc], isa: Isa, tasks: int = 1) -> None:
        """tasks: of a parallel loop. Raises MissingTool without a C compiler."""
        cc = shutil.which("cc") or shutil.which("gcc")
        if cc is None:
            raise MissingTool("no C compiler to link with", hint="sudo apt-get install gcc")
        with tempfile.TemporaryDirectory(prefix="tinsmith-") as name:
            folder = Path(name)
            (folder / "k.o").write_bytes(compile_object(functions, isa))
            (folder / "launch.c").write_text(_LAUNCH)
            link = [cc, "-shared", "-fPIC", "-O1", f"-DTASKS={tasks}", "-o", "k.so"]
            link += ["launch.c", "k.o", "-lm"]
            subprocess.run(link, cwd=folder, check=True)
            self._library = ctypes.CDLL(str(folder / "k.so"))

    def call(self, name: str, arrays: Sequence[Array]) -> None:
        """Runs a function over its buffers in order, in place. Arrays of `aligned`."""
        pointers = [ctypes.c_void_p(a.ctypes.data) for a in arrays]
        getattr(self._library, name)(*pointers)


def aligned(array: Array) -> Array:
    """A flat copy that begins at a multiple of 64 bytes, as arenas and constants do."""
    room = np.zeros(array.nbytes + _ALIGNMENT, np.uint8)
    skip = -room.ctypes.data % _ALIGNMENT
    copy = room[skip : skip + array.nbytes].view(array.dtype)
    copy[:] = array.reshape(-1)
    return copy


def run_prim_func(func: PrimFunc, arrays: Sequence[Array], isa: Isa) -> list[Array]:
    """The buffers after one call, in parameter order. arrays: what they hold before it."""
    buffers = [aligned(a) for a in arrays]
    Library({"f": func}, isa).call("f", buffers)
    return buffers

"""A libcuda.so.1 that computes on the CPU, made from a model's CUDA source (tests/cuda_emulator).

It checks what a GPU would trip over: accesses that are not aligned, tensor-core tiles out of line,
threads of a block that wait at different barriers. Threads take turns forward or backward: where a
barrier is missing the two give different results.
"""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from tinsmith.ir.dtypes import Array
from tinsmith.tvm_backend.cuda.launch import Launch

_EMULATOR = Path(__file__).parent / "cuda_emulator"
_KERNEL = re.compile(r'^extern "C" __global__ [^{}]*?(\w+_kernel\w*)\([^{}]*\{', re.MULTILINE)
_FLAGS = [
    "-std=c++17",
    "-O1",
    "-fPIC",
    "-shared",
    "-w",
    "-fno-strict-aliasing",
    "-fno-exceptions",
    "-fsanitize=alignment,bounds,shift",
    "-fsanitize-undefined-trap-on-error",
]


def kernel_names(source: str) -> list[str]:
    """The kernels of a CUDA source."""
    return _KERNEL.findall(source)


def make_driver(source: str, folder: Path) -> Path:
    """Compile CUDA source into a folder with libcuda.so.1, which is returned."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "kernels.cu").write_text(source)
    names = kernel_names(source)
    (folder / "kernels.h").write_text("".join(f"KERNEL({name})\n" for name in names))
    defines = ['-DKERNELS="kernels.cu"', '-DKERNEL_LIST="kernels.h"']
    program = ["g++", *_FLAGS, *defines, f"-I{_EMULATOR}", f"-I{folder}"]
    output = ["-o", str(folder / "libcuda.so.1")]
    done = subprocess.run(
        [*program, str(_EMULATOR / "emulator.cpp"), *output],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[:4000]
    return folder


@contextmanager
def emulated(folder: Path, **settings: str) -> Iterator[None]:
    """Programs that are started inside find the emulated driver. settings: `order="backward"`,
    `graphs="0"`, `capability="8.6"`, `devices="0"`."""
    changes = {f"TS_EMULATED_{name.upper()}": value for name, value in settings.items()}
    changes["LD_LIBRARY_PATH"] = str(folder)
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class Emulator:
    """Single kernels of an emulated driver, launched from here."""

    def __init__(self, folder: Path) -> None:
        self._library = ctypes.CDLL(str(folder / "libcuda.so.1"))

    def launch(self, launch: Launch, buffers: Mapping[str, Array]) -> None:
        """Run a kernel on arrays by name, which it changes; they are aligned as a GPU's are."""
        function = ctypes.c_void_p()
        name = launch.kernel.encode()
        assert self._library.cuModuleGetFunction(ctypes.byref(function), None, name) == 0
        given = [_aligned(buffers[p]) for p in launch.parameters]
        pointers = [ctypes.c_uint64(a.ctypes.data) for a in given]
        addresses = (ctypes.c_void_p * len(pointers))(*(ctypes.addressof(p) for p in pointers))
        status = self._library.cuLaunchKernel(
            function, *launch.grid, *launch.block, 0, None, addresses, None
        )
        assert status == 0, f"{launch} was refused"
        for parameter, array in zip(launch.parameters, given, strict=True):
            buffers[parameter][...] = array


def _aligned(array: Array) -> Array:
    """A copy on a boundary of 256 bytes, with bytes around it that no result depends on."""
    margin = 512
    raw = np.full(array.nbytes + 2 * margin + 256, 0x5A, np.uint8)
    start = margin + (-(raw.ctypes.data + margin)) % 256
    view = raw[start : start + array.nbytes].view(array.dtype)
    view[...] = array
    return view

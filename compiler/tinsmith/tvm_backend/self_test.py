"""Whether the installed TVM works, found out in a process of its own before anything relies on it.

Pairs of apache-tvm and apache-tvm-ffi that pip accepts can die in a segmentation fault when they
serialise a function, and a TVM with another LLVM does not know every intrinsic by its operands.
`check` turns both into a message. What passed is remembered under the user's cache folder, by
versions and instruction set.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import msgspec
import numpy as np

from ..errors import MissingTool
from ..machine.target import Isa

PACKAGES = ("apache-tvm", "apache-tvm-ffi")
_SECONDS = 300  # of the slowest machine that should not be called broken


def check(isa: Isa) -> None:
    """Returns when TVM can compile for `isa`.

    Raises MissingTool: a package is absent, or the pair of them fails, with both versions and what
    to install.
    """
    versions = _versions()
    passed = _marker(isa, versions)
    if passed.is_file():
        return
    command = [sys.executable, "-m", __name__, msgspec.json.encode(isa).decode()]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
        reason = _reason(done) if done.returncode else ""
    except subprocess.TimeoutExpired:
        reason = f"did not end within {_SECONDS} seconds"
    if reason:
        found = " with ".join(f"{n} {v}" for n, v in versions.items())
        raise MissingTool(
            f"{found} cannot compile for {isa.mcpu} ({isa.dot}): it {reason}",
            expected=" and ".join(_pinned()),
            hint="pip install 'tinsmith[tvm]'",
        )
    with suppress(OSError):  # a folder that cannot be written costs a second test, no more
        passed.parent.mkdir(parents=True, exist_ok=True)
        passed.touch()


def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError as error:
            raise MissingTool(
                f"kernels for this board come from TVM, but {name} is not installed",
                expected=" and ".join(_pinned()),
                hint="pip install 'tinsmith[tvm]'",
            ) from error
    return found


def _pinned() -> list[str]:
    """The versions that tinsmith's own extra asks for."""
    with suppress(PackageNotFoundError):
        rows = [row.partition(";")[0].strip() for row in requires("tinsmith") or ()]
        return [row for row in rows if row.partition("=")[0] in PACKAGES] or list(PACKAGES)
    return list(PACKAGES)


def _marker(isa: Isa, versions: dict[str, str]) -> Path:
    """The file that says: these versions passed for this instruction set."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    facts = msgspec.json.encode((isa, sorted(versions.items()), sys.version_info[:2]))
    return Path(root) / "tinsmith" / f"tvm-{hashlib.sha256(facts).hexdigest()[:16]}.passed"


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode < 0:
        return f"died of {signal.Signals(-done.returncode).name}"
    last = [line for line in done.stderr.splitlines() if line.strip()][-1:]
    return f"said: {last[0].strip()}" if last else f"ended with exit code {done.returncode}"


def main(isa: Isa) -> None:
    """What is tested: serialising, and compiling everything that the rules use of LLVM."""
    from .import_tvm import T, ir_builder, tvm
    from .intrinsics import TAPS, dot_product, saturating_pack, upper_part
    from .native import compile_object

    dot = dot_product(isa.dot, np.zeros(1, np.int8))
    lanes, x_dtype = dot.lanes, "uint8" if isa.storage_offset else "int8"
    sizes = {"x": (TAPS * TAPS * lanes, x_dtype), "y": (TAPS * lanes, "uint8")}
    sizes["w"] = (dot.parts * dot.part_elements, dot.weight_dtype)
    with ir_builder.IRBuilder() as builder, ir_builder.tirx.prim_func(s_tir=True):
        T.func_name("main")
        x, y, w = (T.arg(n, T.buffer((count,), dtype)) for n, (count, dtype) in sizes.items())
        n, width = dot.part_elements, TAPS * lanes
        weights = [w[T.ramp(p * n, 1, n)] for p in range(dot.parts)]
        zero = T.broadcast(T.int32(0), lanes)
        four = dot.spread(T.reinterpret("int32", x[T.ramp(0, 1, TAPS)]))
        first = dot.add(zero, four, weights)
        taps = dot.interleave([x[T.ramp(t * width, 1, width)] for t in range(TAPS)])
        sums = [dot.add(first, quad, weights) for quad in taps]
        packed = saturating_pack([upper_part(s, first, lanes) for s in sums], lanes, "uint8")
        T.buffer_store(y, packed, [T.ramp(0, 1, width)])
    function = builder.get()
    tvm.ir.load_json(tvm.ir.save_json(function))
    compile_object({"f": function}, isa)


if __name__ == "__main__":
    main(msgspec.json.decode(sys.argv[1], type=Isa))

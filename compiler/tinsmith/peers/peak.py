"""The rate at which this machine's own dot product runs: what a share of the peak refers to.

A loop of independent accumulators in registers, so that nothing but the instruction limits it.
"""

from __future__ import annotations

import ctypes
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ..errors import InternalError
from ..machine.target import Dot
from ..toolchain.programs import find_program, tail

_ACCUMULATORS = 12
_MACS_PER_LANE = {"vnni512": 4, "vnni256": 4, "madd256": 2, "sdot": 4, "smlal": 1}
_SECONDS = 0.001  # short: some of the runs are not preempted
_REPEATS = 200

Spin = Callable[[int], object]  # that many turns of the loop


@dataclass(frozen=True)
class _Loop:
    """machine: as `platform.machine` says. flags: of the C compiler. lanes: of int32.

    instruction: assembler, {i} the accumulator's register. clobbers: of one such register.
    """

    machine: str
    flags: tuple[str, ...]
    lanes: int
    instruction: str
    clobber: str


_X86, _ARM = "x86_64", "aarch64"
_MADD = "vpmaddwd %%ymm15, %%ymm14, %%ymm13; vpaddd %%ymm13, %%ymm{i}, %%ymm{i}"
_VEX = "%{{vex%}} vpdpbusd %%ymm15, %%ymm14, %%ymm{i}"
_DOTPROD = ("-march=armv8.2-a+dotprod",)
_LOOPS: dict[str, _Loop] = {
    "vnni512": _Loop(_X86, (), 16, "vpdpbusd %%zmm31, %%zmm30, %%zmm{i}", "xmm{i}"),
    "vnni256": _Loop(_X86, (), 8, _VEX, "xmm{i}"),
    "madd256": _Loop(_X86, (), 8, _MADD, "xmm{i}"),
    "sdot": _Loop(_ARM, _DOTPROD, 4, "sdot v{i}.4s, v30.16b, v31.16b", "v{i}"),
    "smlal": _Loop(_ARM, (), 4, "smlal v{i}.4s, v30.4h, v31.4h", "v{i}"),
}


def peak_macs_per_second(dot: Dot, threads: int) -> float | None:
    """Multiply-accumulates of int8 a second with `threads` threads, the best of many runs: a
    peak is what the machine can do.

    None for an instruction that another machine has. Raises MissingTool without gcc.
    """
    loop = _LOOPS[dot]
    if platform.machine() != loop.machine:
        return None
    with tempfile.TemporaryDirectory(prefix="tinsmith-") as folder:
        call = _compile(loop, Path(folder))
        macs = _ACCUMULATORS * loop.lanes * _MACS_PER_LANE[dot]
        turns = _turns(call)
        with ThreadPoolExecutor(threads) as pool:
            return max(_rate(call, pool, threads, turns, macs) for _ in range(_REPEATS))


def _rate(
    call: Spin,
    pool: ThreadPoolExecutor,
    threads: int,
    turns: int,
    macs: int,
) -> float:
    start = time.perf_counter()
    if threads == 1:
        call(turns)
        return turns * macs / (time.perf_counter() - start)
    for done in [pool.submit(call, turns) for _ in range(threads)]:
        done.result()
    return threads * turns * macs / (time.perf_counter() - start)


def _turns(call: Spin) -> int:
    turns = 1000
    while True:
        start = time.perf_counter()
        call(turns)
        seconds = time.perf_counter() - start
        if seconds > _SECONDS / 4:
            return int(turns * _SECONDS / seconds)
        turns *= 4


def _compile(loop: _Loop, folder: Path) -> Spin:
    registers = range(_ACCUMULATORS)
    body = "\\n".join(loop.instruction.format(i=i) for i in registers)
    clobbers = ", ".join(f'"{loop.clobber.format(i=i)}"' for i in registers)
    text = (
        "void spin(long turns)\n{\n"
        f'    for (long i = 0; i < turns; ++i) __asm__ volatile("{body}" ::: {clobbers});\n}}\n'
    )
    (folder / "peak.c").write_text(text)
    gcc = find_program("gcc", ["gcc"], "measuring the machine's peak")
    command = [gcc, "-O2", "-shared", "-fPIC", *loop.flags, "peak.c", "-o", "peak.so"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise InternalError(f"the loop that measures the peak fails:\n{tail(done.stderr)}")
    spin = ctypes.CDLL(str(folder / "peak.so")).spin
    spin.argtypes = [ctypes.c_long]
    return spin

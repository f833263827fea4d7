"""Runs emitted models on this machine: many models in one sanitized executable, driven by files."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinsmith import paths
from tinsmith.codegen.emit import Program, emit
from tinsmith.ir.dtypes import Array
from tinsmith.ir.graph import Graph
from tinsmith.kernels.kernel import Kernel
from tinsmith.kernels.select import select_kernels
from tinsmith.machine.target import Target, load_target
from tinsmith.plan.arena import plan_arena
from tinsmith.plan.check import check_plan

DRIVER = Path(__file__).resolve().parent / "c"
WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror")
# Of float32 C against numpy: sums in another order, and expf, tanhf… of the C library.
FLOAT_TOLERANCE = {"rtol": 2e-5, "atol": 5e-6}
SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g1")


@dataclass(frozen=True)
class Job:
    """A model and the samples to run: `samples[i]` is one array per graph input."""

    program: Program
    samples: Sequence[Sequence[Array]]


def program(
    graph: Graph, target: str | Target = "host", kernels: Sequence[Kernel] | None = None
) -> Program:
    """Kernels and a plan for a graph whose integer nodes are already lowered."""
    machine = load_target(target) if isinstance(target, str) else target
    calls = select_kernels(graph, machine, kernels)
    plan = plan_arena(graph, calls, machine.arena_alignment)
    check_plan(graph, calls, plan)
    return Program(graph, calls, plan)


def write(folder: Path, files: Mapping[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)


def compile_c(folder: Path, *flags: str, compiler: str = "gcc") -> Path:
    """Compile every .c file of `folder` into one executable; fails with the compiler's words."""
    sources = sorted(p.name for p in folder.glob("*.c"))
    if any("ts_delta.h" in p.read_text() for p in folder.glob("*.h")):
        sources += [str(p) for p in sorted((paths.RUNTIME_C / "src").glob("*.c"))]
    command = [compiler, "-std=c11", "-O1", *WARNINGS, *flags]
    command += [
        "-I",
        str(paths.RUNTIME_C / "include"),
        "-I",
        str(DRIVER),
        *sources,
        "-o",
        "model.exe",
        "-lm",
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder / "model.exe"


def run_jobs(
    folder: Path, jobs: Sequence[Job], *flags: str, compiler: str = "gcc"
) -> list[list[tuple[Array, ...]]]:
    """Emit, compile and run; per job and sample the outputs. Checks the self-tests too."""
    names = [job.program.c_name for job in jobs]
    assert len(set(names)) == len(names), "jobs need graphs of different names"
    files = {name: text for job in jobs for name, text in emit(job.program).items()}
    return run_files(folder, files, jobs, *flags, compiler=compiler)


def run_files(
    folder: Path,
    files: Mapping[str, str],
    jobs: Sequence[Job],
    *flags: str,
    compiler: str = "gcc",
) -> list[list[tuple[Array, ...]]]:
    """Compile and run C that was emitted before."""
    write(folder, {**files, "main.c": _main(jobs)})
    exe = compile_c(folder, *(flags or SANITIZE), compiler=compiler)
    with (folder / "in.bin").open("wb") as file:
        for job in jobs:
            file.write(np.uint32(len(job.samples)).tobytes())
            for sample in job.samples:
                for array in sample:
                    file.write(np.ascontiguousarray(array).tobytes())
    done = subprocess.run(
        [exe, "in.bin", "out.bin"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"exit {done.returncode}: {done.stderr[-3000:]}"
    return _read(folder / "out.bin", jobs)


def _main(jobs: Sequence[Job]) -> str:
    lines = ['#include "host_main.h"']
    for job in jobs:
        m, graph = job.program.c_name, job.program.graph
        lines.append(f'#include "{m}.h"')
        for kind, values in (("in", graph.inputs), ("out", graph.outputs)):
            sizes = ", ".join(str(v.type.bytes) for v in values)
            lines.append(f"static const size_t {m}_{kind}_bytes[] = {{{sizes}}};")
        lines.append(f"MODEL({m}, {m.upper()})")
    calls = "".join(f"    run_{job.program.c_name}();\n" for job in jobs)
    return "\n".join(lines) + f"\nstatic void run_all(void)\n{{\n{calls}}}\n"


def _read(path: Path, jobs: Sequence[Job]) -> list[list[tuple[Array, ...]]]:
    data, at = path.read_bytes(), 0
    results: list[list[tuple[Array, ...]]] = []
    for job in jobs:
        rows = []
        for _ in job.samples:
            row = []
            for value in job.program.graph.outputs:
                type_ = value.type
                array = np.frombuffer(data, type_.dtype.numpy, type_.elements, at)
                row.append(array.reshape(type_.shape))
                at += type_.bytes
            rows.append(tuple(row))
        results.append(rows)
    assert at == len(data)
    return results

"""Every model for every CPU target with kernels from TVM: is it bit-exact, and how long does it
take to compile?

    python -m tests.benchmarks.tvm_exact [--model M]… [--target T]… [--threads N]…

Foreign targets run in their emulator. Needs the shared models and the tvm extra.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from tinsmith.quant.batch import run_many
from tinsmith.runner.latency import using_threads
from tinsmith.runner.project import open_project
from tinsmith.runner.run import run_project

from ..tvm_projects import MODELS, TARGETS, compile_for, inputs


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", action="append", choices=MODELS)
    parser.add_argument("--target", action="append", choices=TARGETS)
    parser.add_argument("--threads", action="append", type=int)
    given = parser.parse_args()
    print("| model | target | samples | threads | wrong values | compile s | CPU s | kernels B |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for model in given.model or MODELS:
        for target in given.target or TARGETS:
            with tempfile.TemporaryDirectory() as folder:
                print(measure(model, target, Path(folder), given.threads or [1, 2]), flush=True)


def measure(model: str, target: str, folder: Path, threads: list[int]) -> str:
    """A row of the table."""
    wall, cpu = time.perf_counter(), time.process_time()
    report = compile_for(model, target, folder).report
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    project = open_project(folder)
    samples = inputs(project.graph)
    expected = run_many(project.graph, samples)
    wrong = 0
    for count in threads:
        with using_threads(count):
            got = run_project(project, samples).device_outputs
        wrong += sum(int(np.count_nonzero(g != w)) for g, w in zip(got, expected, strict=True))
    counts = " ".join(map(str, threads))
    return (
        f"| {model} | {target} | {len(samples[0])} | {counts} | {wrong} | {wall:.1f} | {cpu:.1f} | "
        f"{report.kernels_bytes:,} |"
    )


if __name__ == "__main__":
    main()

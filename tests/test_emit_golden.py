"""The C of one small model, kept in tests/golden: read it to see what is generated. It runs too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from tinsmith.codegen.emit import emit
from tinsmith.ir.interpret import run

from .conftest import GOLDEN
from .host_c import Job, program, run_files
from .int8_nets import residual_net

FOLDER = "residual"


def test_emitted_c_is_the_golden(golden: Callable[[str, str], None]) -> None:
    for name, text in emit(program(residual_net())).items():
        golden(f"{FOLDER}/{name}", text)


def test_the_golden_runs(tmp_path: Path) -> None:
    emitted = program(residual_net())
    rng = np.random.default_rng(5)
    samples = [[rng.integers(-128, 128, (1, 8, 8, 3)).astype(np.int8)] for _ in range(8)]
    files = {p.name: p.read_text() for p in (GOLDEN / FOLDER).iterdir()}
    assert files
    (rows,) = run_files(tmp_path, files, [Job(emitted, samples)])
    for sample, outputs in zip(samples, rows, strict=True):
        np.testing.assert_array_equal(outputs[0], run(emitted.graph, sample)[0])
    assert len({outputs[0].tobytes() for outputs in rows}) > 4

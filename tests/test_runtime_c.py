"""The hand-written C: bit-exact with quant/arithmetic.py, and clean in C and C++."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from tinsmith import paths
from tinsmith.codegen.emit import runtime_version
from tinsmith.ir.dtypes import Array
from tinsmith.quant.arithmetic import INT32_MAX, quantize_multiplier, requantize, saturate

from .host_c import DRIVER, SANITIZE, WARNINGS

INCLUDE = paths.RUNTIME_C / "include"
HEADERS = sorted(p.relative_to(INCLUDE).as_posix() for p in INCLUDE.rglob("*.h"))


def _run(tmp_path: Path, compiler: str, rows: Array) -> Array:
    exe = tmp_path / "requantize"
    checks = SANITIZE if compiler == "gcc" else ()  # Debian's clang comes without the libraries
    command = [compiler, "-std=c11", "-O1", *WARNINGS, *checks, "-I", str(INCLUDE)]
    subprocess.run([*command, str(DRIVER / "requantize.c"), "-o", str(exe)], check=True)
    done = subprocess.run(
        [exe], input=rows.astype(np.int32).tobytes(), capture_output=True, check=True
    )
    return np.frombuffer(done.stdout, np.int32).reshape(-1, 2)


def _rows() -> Array:
    """accumulator, multiplier, shift, zero point, q_min, q_max: every shift, edges, then random."""
    rng = np.random.default_rng(7)
    edges = [-INT32_MAX - 1, -INT32_MAX, -(2**30), -257, -2, -1, 0, 1, 2, 255, 2**30, INT32_MAX]
    rows: list[tuple[int, ...]] = []
    for shift in range(-31, 31):
        for multiplier in (2**30, 2**30 + 1, 1518500250, INT32_MAX):
            accumulators = [*edges, *rng.integers(-(2**31), 2**31, 20).tolist()]
            rows += [(a, multiplier, shift, 3, -128, 127) for a in accumulators]
    for accumulator in edges:
        rows.append((accumulator, 0, 0, -7, -128, 127))
    for real in 2.0 ** rng.uniform(-20, 2, 20000):
        multiplier, shift = quantize_multiplier(float(real))
        accumulator = int(rng.normal() * 200 / real)
        low, high = sorted(rng.integers(-128, 128, 2).tolist())
        rows.append((accumulator, multiplier, shift, int(rng.integers(-128, 128)), low, high))
    # Exact ties: accumulator · multiplier is half a step away from a multiple.
    rows += [(2 * k + 1, 2**30, -k0, 0, -128, 127) for k in range(-40, 40) for k0 in (-1, 0, 5)]
    return np.array(rows, np.int64)


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_requantize_is_the_twin_of_the_numpy_rule(tmp_path: Path, compiler: str) -> None:
    rows = _rows()
    acc, multiplier, shift, zero_point, low, high = rows.T
    scaled = requantize(acc, multiplier, shift)
    fits = np.abs(scaled) <= INT32_MAX
    got = _run(tmp_path, compiler, np.column_stack([rows, fits]))
    np.testing.assert_array_equal(got[:, 0], np.where(fits, scaled, 0))
    wanted = [
        saturate(np.array(s + z), lo, hi)
        for s, z, lo, hi in zip(scaled, zero_point, low, high, strict=True)
    ]
    np.testing.assert_array_equal(got[:, 1], np.array(wanted))
    assert len(np.unique(got[:, 1])) == 256


@pytest.mark.parametrize("core", ["__ARM_ARCH_6M__", "ANY_OTHER"])
def test_high_product_is_the_upper_word(tmp_path: Path, core: str) -> None:
    """In 32 bits, as on Armv6-M, too; sanitized, so nothing may overflow on the way."""
    rng = np.random.default_rng(3)
    halves = [-32768, -32767, -1, 0, 1, 32767]
    edges = [65536 * high + low for high in halves for low in (0, 1, 32768, 65535)]
    factors = [0, 1, 65535, 65536, 2**30, INT32_MAX - 65535, INT32_MAX]
    pairs = [(a, m) for a in edges for m in factors]
    random = np.column_stack([rng.integers(-(2**31), 2**31, 999), rng.integers(0, 2**31, 999)])
    rows = np.vstack([np.array(pairs, np.int64), random])
    source, exe = tmp_path / "product.c", tmp_path / "product"
    source.write_text(
        "#include <stdio.h>\n#include <tinsmith/ts_requantize.h>\n"
        "int main(void)\n{\n    int32_t v[2];\n"
        "    while (fread(v, sizeof v, 1, stdin) == 1) {\n"
        "        const int32_t high = ts_high_product(v[0], v[1]);\n"
        "        fwrite(&high, sizeof high, 1, stdout);\n    }\n    return 0;\n}\n"
    )
    command = ["gcc", "-std=c11", f"-D{core}", *WARNINGS, *SANITIZE, "-I", str(INCLUDE)]
    subprocess.run([*command, str(source), "-o", str(exe)], check=True)
    done = subprocess.run(
        [exe], input=rows.astype(np.int32).tobytes(), capture_output=True, check=True
    )
    np.testing.assert_array_equal(np.frombuffer(done.stdout, np.int32), rows.prod(1) >> 32)


@pytest.mark.parametrize(
    ("compiler", "language"), [("gcc", "c"), ("clang", "c"), ("arm-none-eabi-gcc", "c")]
)
@pytest.mark.parametrize("header", HEADERS)
def test_headers_stand_alone(header: str, compiler: str, language: str) -> None:
    source = f'#include "{header}"\n#include "{header}"\n'
    command = [compiler, "-x", language, "-std=c11", *WARNINGS, "-I", str(INCLUDE)]
    done = subprocess.run(
        [*command, "-fsyntax-only", "-"], input=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_runtime_version_is_read_from_the_header() -> None:
    assert runtime_version() >= 1

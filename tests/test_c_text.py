"""Spelling C: literals keep their value, names are valid, comments cannot be left."""

from __future__ import annotations

import math
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinsmith.codegen.c_text import (
    COLUMNS,
    Names,
    c_comment,
    c_float,
    c_identifier,
    c_int,
    c_int64,
    c_model_name,
    c_table,
)

from .host_c import SANITIZE, compile_c

EDGES = [0, 1, -1, 127, -128, 2**31 - 1, -(2**31), 2**30]


def _compile_and_print(tmp_path: Path, body: str) -> str:
    (tmp_path / "main.c").write_text(
        "#include <math.h>\n#include <stdint.h>\n#include <stdio.h>\n#include <inttypes.h>\n"
        f"int main(void)\n{{\n{body}\n    return 0;\n}}\n"
    )
    exe = compile_c(tmp_path, *SANITIZE)
    return subprocess.run([exe], capture_output=True, text=True, check=True).stdout


def test_integer_literals_keep_their_value(tmp_path: Path) -> None:
    body = "\n".join(f'    printf("%" PRId32 "\\n", (int32_t){c_int(v)});' for v in EDGES)
    assert _compile_and_print(tmp_path, body).split() == [str(v) for v in EDGES]
    wide = [*EDGES, 2**62, -(2**63), 2**63 - 1]
    body = "\n".join(f'    printf("%" PRId64 "\\n", {c_int64(v)});' for v in wide)
    assert _compile_and_print(tmp_path, body).split() == [str(v) for v in wide]
    with pytest.raises(ValueError, match="does not fit int32"):
        c_int(2**31)
    with pytest.raises(ValueError, match="does not fit int64"):
        c_int64(2**63)


def test_float_literals_are_exact(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    bits = rng.integers(0, 2**32, 3000, dtype=np.uint64).astype(np.uint32)
    values = bits.view(np.float32)
    values = values[np.isfinite(values)]
    edges = [0.0, -0.0, 1.0, 0.1, 1e-45, 3.4028235e38, 16777217.0, math.inf, -math.inf]
    values = np.concatenate([values, np.array(edges, np.float32)])
    table = ",\n".join(c_float(v) for v in values)
    body = (
        f"    static const float v[] = {{\n{table}\n    }};\n"
        f"    for (int i = 0; i < {len(values)}; ++i) {{\n"
        "        union { float f; uint32_t u; } x = {v[i]};\n"
        '        printf("%" PRIu32 "\\n", x.u);\n    }'
    )
    got = np.array(_compile_and_print(tmp_path, body).split(), np.uint32)
    np.testing.assert_array_equal(got, values.view(np.uint32))
    assert c_float(math.nan) == "NAN"


@given(st.text(max_size=80))
def test_identifiers_are_valid_c(name: str) -> None:
    text = c_identifier(name)
    assert text.isidentifier()
    assert text.isascii()
    assert not text.startswith("_")
    assert "__" not in text


def test_identifiers_avoid_keywords_and_headers() -> None:
    assert c_identifier("int") == "int_"
    assert c_identifier("model/conv.1:0") == "model_conv_1_0"
    assert c_identifier("0weights") == "v_0weights"
    assert c_model_name("MBv2-w0.35") == "mbv2_w0_35"
    assert c_model_name("string") == "model_string"
    assert c_model_name("class") == "model_class"
    assert c_model_name("ts_net") == "model_ts_net"
    assert c_model_name("") == "model"
    names = Names()
    assert [names.unique("a"), names.unique("a"), names.unique("a")] == ["a", "a_2", "a_3"]


@given(st.text(max_size=60))
def test_comments_cannot_be_left(text: str) -> None:
    comment = c_comment(text)
    assert "*/" not in comment
    assert "/*" not in comment
    assert "??" not in comment
    assert comment.isascii()
    assert comment.isprintable()


def test_tables_are_wrapped() -> None:
    rng = np.random.default_rng(0)
    for array in (
        rng.integers(-128, 128, 1000).astype(np.int8),
        rng.integers(-(2**31), 2**31, 77).astype(np.int32),
        rng.normal(size=50).astype(np.float32),
    ):
        lines = c_table(array).splitlines()
        assert max(map(len, lines)) <= COLUMNS
        numbers = [t.strip() for line in lines for t in line.split(",") if t.strip()]
        assert len(numbers) == array.size

"""The pool of threads that kernels from TVM share, with sanitizers."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tinsmith import paths

from .host_c import DRIVER, WARNINGS

SOURCES = (paths.RUNTIME_C / "tvm" / "ts_parallel.c", DRIVER / "parallel_test.c")


@pytest.mark.parametrize(
    ("compiler", "flags"),
    [
        ("gcc", ["-fsanitize=address,undefined"]),
        ("gcc", ["-fsanitize=thread"]),
        ("clang", ["-O2"]),
    ],
)
def test_every_part_of_a_loop_runs_once(compiler: str, flags: list[str], tmp_path: Path) -> None:
    program = tmp_path / "parallel_test"
    include = f"-I{paths.RUNTIME_C / 'include'}"
    subprocess.run(
        [
            compiler, "-std=c11", "-O1", "-g", *WARNINGS, *flags, include,
            *SOURCES, "-pthread", "-o", program,
        ],
        check=True,
    )  # fmt: skip
    subprocess.run([program], check=True, timeout=120)


def test_one_thread_makes_none(tmp_path: Path) -> None:
    """Without TINSMITH_THREADS a program has the thread it began with."""
    source = tmp_path / "single.c"
    source.write_text(
        '#include "tinsmith/ts_parallel.h"\n#include <pthread.h>\n'
        "int pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *x)\n"
        "{ (void)t; (void)a; (void)f; (void)x; __builtin_trap(); }\n"
        "extern int (*__TVMBackendParallelLaunch)(void *, void *, int);\n"
        "static int body(int i, void *env, void *x)\n"
        "{ (void)i; (void)env; *(int *)x += 1; return 0; }\n"
        "int main(void) { int n = 0; ts_parallel_init();\n"
        "for (int i = 0; i < 5; ++i) __TVMBackendParallelLaunch((void *)body, &n, 0);\n"
        "return n == 5 ? 0 : 1; }\n"
    )
    program = tmp_path / "single"
    include = f"-I{paths.RUNTIME_C / 'include'}"
    command = ["gcc", "-std=gnu11", include, SOURCES[0], source, "-o", program]
    subprocess.run(command, check=True)
    for environment, status in (({}, 0), ({"TINSMITH_THREADS": "2"}, -4)):
        done = subprocess.run([program], env=environment, check=False)
        assert done.returncode in (status, status - 1 if status else 0)

"""Generated C: templates, functions, and what the API promises."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jinja2
import numpy as np
import pytest

from tinsmith import paths
from tinsmith.codegen.emit import Program, emit, model_view
from tinsmith.codegen.environment import environment
from tinsmith.errors import CompileError, InternalError
from tinsmith.ir.dtypes import float32
from tinsmith.ir.graph import Graph, Value
from tinsmith.ops.conv2d import Conv2dAttrs
from tinsmith.ops.reshape import ReshapeAttrs

from .host_c import SANITIZE, Job, compile_c, program, run_jobs, write
from .int8_nets import Int8Net


def _conv_net(name: str = "net") -> Graph:
    net = Int8Net(name, 1)
    return net.build(net.conv(net.conv(net.input(1, 5, 6, 3), 4), 4, 1))


def test_a_template_assertion_names_its_place() -> None:
    template = environment().from_string('{% assert n % 4 == 0, "n is " ~ n %}ok')
    assert template.render(n=8) == "ok"
    with pytest.raises(InternalError, match="n is 7"):
        template.render(n=7)


def test_an_undefined_name_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError, match="'missing' is undefined"):
        environment().from_string("{{ missing }}").render()


def test_functions_and_arrays_with_the_same_content_are_emitted_once() -> None:
    net = Int8Net("twice", 1)
    x = net.input(1, 4, 4, 2)
    weights = net.weights(x, (2, 1, 1, 2), 2)
    attrs = Conv2dAttrs(layout="NHWC")
    first = net.add("conv2d", [x, *weights], attrs)
    second = net.add("conv2d", [x, *weights], attrs)
    second = replace(second, type=first.type)
    net.nodes[-1] = replace(net.nodes[-1], outputs=(second,))
    twice = program(net.build(first, second))
    view = model_view(twice)
    assert len(view.functions) == 1
    assert len(view.weights) == len(twice.calls[0].constants)
    called = [s.call.split("(")[0].strip() for s in view.steps]
    assert called == [twice.calls[0].kernel.name] * 2


_EMIT = """
import hashlib, sys
sys.path.insert(0, {root!r})
from tests.host_c import program
from tests.int8_nets import residual_net
from tinsmith.codegen.emit import emit
for name, text in emit(program(residual_net())).items():
    print(name, hashlib.sha256(text.encode()).hexdigest())
"""


def test_output_does_not_depend_on_hash_order() -> None:
    root = str(Path(__file__).resolve().parents[1])
    texts = {
        subprocess.run(
            [sys.executable, "-c", _EMIT.format(root=root)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(texts) == 1
    assert next(iter(texts)).count("\n") == 4


def test_the_api_checks_its_arguments(tmp_path: Path) -> None:
    graph = _conv_net("api")
    write(tmp_path, emit(program(graph)))
    library = tmp_path / "api.so"
    include = str(paths.RUNTIME_C / "include")
    command = ["gcc", "-std=c11", "-shared", "-fPIC", "-I", include, "api.c", "api_weights.c"]
    subprocess.run([*command, "-o", library], cwd=tmp_path, check=True)
    c = ctypes.CDLL(str(library))
    c.api_input.restype = c.api_output.restype = ctypes.c_void_p
    header = (tmp_path / "api.h").read_text()
    size = int(header.split("#define API_ARENA_BYTES ")[1].split()[0])
    context, room = ctypes.c_void_p(), ctypes.create_string_buffer(size + 64)
    start = -(-ctypes.addressof(room) // 16) * 16
    ctx, arena = ctypes.byref(context), ctypes.c_void_p
    ok, bad, small, misaligned, early = 0, 1, 2, 3, 4
    assert c.api_run(ctx) == c.api_selftest(ctx) == early
    assert c.api_input(ctx, 0) is None
    assert c.api_init(None, arena(start), size) == bad
    assert c.api_init(ctx, None, size) == bad
    assert c.api_init(ctx, arena(start), size - 1) == small
    assert c.api_init(ctx, arena(start + 1), size) == misaligned
    assert c.api_run(ctx) == early
    assert c.api_init(ctx, arena(start), size) == ok
    assert c.api_run(None) == c.api_selftest(None) == bad
    assert [c.api_input(ctx, i) is None for i in (-1, 0, 1)] == [True, False, True]
    assert [c.api_output(ctx, i) is None for i in (-1, 0, 1)] == [True, False, True]
    assert c.api_selftest(ctx) == ok


def test_the_selftest_notices_a_wrong_weight(tmp_path: Path) -> None:
    emitted = program(_conv_net("broken"))
    other = replace(emitted, sample=None)
    files = emit(other)
    line = next(a for a in model_view(other).weights if a.name.endswith("_bias"))
    first = line.table.split(",")[0].strip()
    wrong = line.table.replace(first, str(int(first) + 100000), 1)
    files["broken_weights.c"] = files["broken_weights.c"].replace(line.table, wrong)
    write(tmp_path, files)
    (tmp_path / "main.c").write_text(
        '#include "broken.h"\n'
        "static _Alignas(BROKEN_ARENA_ALIGNMENT) uint8_t arena[BROKEN_ARENA_BYTES];\n"
        "int main(void)\n{\n    broken_context ctx;\n"
        "    broken_init(&ctx, arena, sizeof arena);\n    return (int)broken_selftest(&ctx);\n}\n"
    )
    assert subprocess.run([compile_c(tmp_path)], check=False).returncode == 5


def test_another_runtime_version_is_refused(tmp_path: Path) -> None:
    files = emit(program(_conv_net("versions")))
    files["versions.c"] = files["versions.c"].replace(
        "_Static_assert(TS_RUNTIME_VERSION == ", "_Static_assert(TS_RUNTIME_VERSION == 1000 + "
    )
    write(tmp_path, files)
    (tmp_path / "main.c").write_text("int main(void) { return 0; }\n")
    with pytest.raises(AssertionError, match="another version of the tinsmith runtime"):
        compile_c(tmp_path)


def test_the_header_is_cpp(tmp_path: Path) -> None:
    write(tmp_path, emit(program(_conv_net("cpp"))))
    source = (
        '#include "cpp.h"\nint main() { cpp_context c; static unsigned char a[CPP_ARENA_BYTES];\n'
        "return cpp_init(&c, a, sizeof a) == TS_OK; }\n"
    )
    command = ["g++", "-std=c++17", "-Wall", "-Wextra", "-Werror", "-x", "c++", "-fsyntax-only"]
    command += ["-I", str(tmp_path), "-I", str(paths.RUNTIME_C / "include"), "-"]
    done = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_trace_reports_every_node(tmp_path: Path) -> None:
    graph = _conv_net("traced")
    emitted = program(graph)
    write(tmp_path, emit(emitted))
    (tmp_path / "main.c").write_text(
        '#include <stdio.h>\n#include "traced.h"\n#include "tinsmith/ts_trace.h"\n'
        "static _Alignas(TRACED_ARENA_ALIGNMENT) uint8_t arena[TRACED_ARENA_BYTES];\n"
        "void ts_trace(int32_t node, const void *data, size_t bytes)\n{\n"
        "    const int offset = (int)((const uint8_t *)data - arena);\n"
        '    printf("%d %d %d\\n", (int)node, offset, (int)bytes);\n}\n'
        "int main(void)\n{\n    traced_context ctx;\n"
        "    traced_init(&ctx, arena, sizeof arena);\n    return (int)traced_selftest(&ctx);\n}\n"
    )
    done = subprocess.run(
        [compile_c(tmp_path, "-DTS_TRACE")], capture_output=True, text=True, check=True
    )
    wanted = [
        f"{i} {emitted.plan.offsets[n.outputs[0]]} {n.y.bytes}" for i, n in enumerate(graph.nodes)
    ]
    assert done.stdout.splitlines() == wanted


def test_names_that_are_not_c(tmp_path: Path) -> None:
    """A model and values named to break C: spaces, keywords, comment marks, the same letters."""
    net = Int8Net("9 int*/ main", 1)
    net.inputs.append(replace(net.input(1, 4, 4, 2), name="*/ x ??/"))
    net.inputs.pop(0)
    for _ in range(2):
        net.conv(net.inputs[0] if not net.nodes else net.nodes[-1].outputs[0], 2)
    names = ("a b", "a/b")
    for i, name in enumerate(names):
        old = net.nodes[i].outputs[0]
        new = replace(old, name=name)
        net.nodes = [
            replace(
                n,
                inputs=tuple(new if v == old else v for v in n.inputs),
                outputs=tuple(new if v == old else v for v in n.outputs),
            )
            for n in net.nodes
        ]
    emitted = program(net.build(net.nodes[-1].outputs[0]))
    assert emitted.c_name == "model_9_int_main"
    sample = [np.zeros((1, 4, 4, 2), np.int8)]
    run_jobs(tmp_path, [Job(emitted, [sample])])


def test_graphs_without_any_code(tmp_path: Path) -> None:
    """An output that is an input, a view of it, twice the same output; int8 and float32."""
    net = Int8Net("nothing", 1)
    x = net.input(1, 2, 3, 4)
    only_view = Int8Net("view", 1)
    y = only_view.input(1, 2, 3, 4)
    flat = only_view.add("reshape", [y], ReshapeAttrs((4, 6)))
    real = Value("x", float32(1, 5))
    graphs = [
        net.build(x),
        only_view.build(flat, y, flat),
        Graph("real", (real,), (real,), {}, ()),
    ]
    rng = np.random.default_rng(0)
    jobs = [
        Job(program(g), [[rng.integers(-9, 9, v.type.shape).astype(v.type.dtype.numpy)]])
        for g in graphs
        for v in g.inputs
    ]
    for job, rows in zip(jobs, run_jobs(tmp_path, jobs), strict=True):
        ((given,),) = job.samples
        for got in rows[0]:
            np.testing.assert_array_equal(got.ravel(), given.ravel())


def test_a_constant_output_is_refused() -> None:
    graph = _conv_net()
    constant = next(iter(graph.initializers))
    emitted = program(graph)
    odd = replace(graph, outputs=(*graph.outputs, constant))
    with pytest.raises(CompileError, match="is a constant"):
        emit(Program(odd, emitted.calls, emitted.plan))


def test_a_graph_in_another_order_than_its_plan_is_refused() -> None:
    graph = _conv_net()
    emitted = program(graph)
    plan = replace(emitted.plan, order=emitted.plan.order[::-1])
    with pytest.raises(InternalError, match="order of the plan"):
        emit(Program(graph, emitted.calls, plan))


def test_the_program_of_the_documentation_compiles(tmp_path: Path) -> None:
    text = (Path(__file__).resolve().parents[1] / "docs" / "c-api.md").read_text()
    (source,) = re.findall(r"```c\n(.*?)```", text, re.DOTALL)
    write(tmp_path, emit(program(_conv_net("kws"))))
    call = "static int8_t data[KWS_INPUT_0_BYTES];\nint main(void) { return classify(data) < 0; }\n"
    declared = source.replace("int classify", "static int classify")
    (tmp_path / "main.c").write_text(declared + call)
    exe = compile_c(tmp_path, *SANITIZE)
    assert subprocess.run([exe], check=False).returncode == 0

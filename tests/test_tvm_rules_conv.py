"""The TVM rules of int8 conv2d and dense: generated shapes against the numpy references.

`test_tvm_rules.py` runs the operators' own cases; here are sizes that tiles and vectors do not
divide, batches, and constants at the edges of what is exact. What runs is what a board gets.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from tests.tvm_conv_graphs import GRAPHS, one_node
from tests.tvm_rules import native_isas
from tinsmith.ir.dtypes import Array
from tinsmith.ir.graph import Graph, Value
from tinsmith.ir.interpret import run
from tinsmith.machine.target import Isa, load_target
from tinsmith.ops.dense import DenseAttrs

pytest.importorskip("tvm", reason="the rules need TVM: pip install 'tinsmith[tvm]'")

from tinsmith.tvm_backend.import_tvm import PrimFunc, tvm
from tinsmith.tvm_backend.intrinsics import interleaved_order
from tinsmith.tvm_backend.native import compile_object, llvm_target
from tinsmith.tvm_backend.registry import rule_for
from tinsmith.tvm_backend.rule import Site
from tinsmith.tvm_backend.rules import _parallel
from tinsmith.tvm_backend.rules._sum_tiles import ranked_tiles
from tinsmith.tvm_backend.run_prim_func import Library, aligned

ISAS = native_isas()
MIXED = ("batch", "depthwise_period", "dense_rows")


def _sites(isa: Isa, *, best: bool) -> Iterator[tuple[str, Site]]:
    """Every graph with both activations offset; of the best set also with one or none."""
    for name, graph in GRAPHS.items():
        x, y = graph.inputs[0], graph.outputs[0]
        ways = [frozenset((x, y))]
        ways += [frozenset((x,)), frozenset((y,))] if best and name in MIXED else []
        ways += [frozenset[Value]()] if best else []
        for stored in ways:
            key = f"{name}_{'_'.join(sorted(v.name for v in stored))}"
            yield key, Site(graph.nodes[0], graph, isa, stored)


def _offset_site(graph: Graph, isa: Isa) -> Site:
    return Site(graph.nodes[0], graph, isa, frozenset((*graph.inputs, *graph.outputs)))


def _built(site: Site) -> PrimFunc:
    rule = rule_for(site.node, site.graph)
    assert rule is not None
    return rule.build(site)


def _samples(graph: Graph) -> list[Array]:
    shape, rng = graph.inputs[0].type.shape, np.random.default_rng(7)
    extremes = [np.full(shape, v, np.int8) for v in (-128, 127)]
    return [*extremes, rng.integers(-128, 128, shape).astype(np.int8)]


def _buffers(site: Site, x: Array) -> list[Array]:
    """What a call takes; the output, second, holds something else."""
    rule = rule_for(site.node, site.graph)
    assert rule is not None
    x_value, y_value = site.node.inputs[0], site.node.outputs[0]
    x = (x.astype(np.int16) + site.offset(x_value)).astype(site.dtype(x_value))
    rest = [c.array for c in rule.constants(site).values()]
    if scratch := rule.scratch_bytes(site):
        rest.append(np.random.default_rng(3).integers(0, 256, scratch).astype(np.uint8))
    y = np.full(site.node.y.elements, 77, site.dtype(y_value))
    return [aligned(a) for a in (x, y, *rest)]


def _result(site: Site, y: Array) -> Array:
    moved = y.astype(np.int16) - site.offset(site.node.outputs[0])
    return moved.astype(np.int8).reshape(site.node.y.shape)


@pytest.mark.skipif(not ISAS, reason="no instruction set of TVM's runs here")
@pytest.mark.parametrize("target", ISAS)
def test_generated_shapes_are_bit_exact(target: str) -> None:
    sites = dict(_sites(ISAS[target], best=target == next(iter(ISAS))))
    _check(sites, Library({name: _built(site) for name, site in sites.items()}, ISAS[target]))


@pytest.mark.skipif(not ISAS, reason="no instruction set of TVM's runs here")
def test_tasks_of_parallel_loops_do_not_need_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_parallel, "_LEAST_MACS", 1)
    isa = next(iter(ISAS.values()))
    sites = dict(_sites(isa, best=False))
    functions = {name: _built(site) for name, site in sites.items()}
    assert sum("T.parallel" in f.script() for f in functions.values()) > len(functions) // 2
    _check(sites, Library(functions, isa, tasks=3))


def _check(sites: Mapping[str, Site], library: Library) -> None:
    for name, site in sites.items():
        for x in _samples(site.graph):
            buffers = _buffers(site, x)
            library.call(name, buffers)
            got, want = _result(site, buffers[1]), run(site.graph, [x])[0]
            np.testing.assert_array_equal(got, want, err_msg=name)


DRIVER = """
#include <stdio.h>
#include <stdint.h>
typedef struct {{ void *sync; int32_t tasks; }} group;
static int launch(int (*run)(int, group *, void *), void *closure, int tasks)
{{
    group env = {{0, 1}};
    (void)tasks;
    return run(0, &env, closure);
}}
int (*__TVMBackendParallelLaunch)(int (*)(int, group *, void *), void *, int) = launch;
{declarations}
static _Alignas(64) uint8_t memory[1 << 20];
typedef int32_t (*function)(void *, void *, void *, void *, void *, void *, void *, void *);
static const function functions[] = {{ {names} }};
int main(void)
{{
    for (unsigned f = 0; f < sizeof functions / sizeof *functions; f++) {{
        uint32_t sizes[8], at = 0;
        void *p[8];
        if (fread(sizes, sizeof sizes, 1, stdin) != 1) return 1;
        for (int i = 0; i < 8; i++) {{
            p[i] = memory + at;
            if (sizes[i] && fread(p[i], sizes[i], 1, stdin) != 1) return 2;
            at += (sizes[i] + 63) / 64 * 64;
        }}
        functions[f](p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7]);
        if (fwrite(p[1], sizes[1], 1, stdout) != 1) return 3;
    }}
    return 0;
}}
"""
EMULATED = {"aarch64-dotprod": "cortex-a76", "aarch64": "cortex-a53"}


@pytest.mark.parametrize("target", EMULATED)
def test_generated_shapes_are_bit_exact_on_emulated_arm(target: str, tmp_path: Path) -> None:
    record = load_target(target)
    isa = record.tvm
    assert isa is not None
    for tool in (record.cc, "qemu-aarch64-static"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}")
    sites = dict(_sites(isa, best=False))
    (tmp_path / "k.o").write_bytes(compile_object({n: _built(s) for n, s in sites.items()}, isa))
    declared = "".join(f"int32_t {n}();\n" for n in sites)
    source = DRIVER.format(declarations=declared, names=", ".join(f"(function){n}" for n in sites))
    (tmp_path / "main.c").write_text(source)
    link = [record.cc, "-static", "-w", "-o", "program", "main.c", "k.o", "-lm"]
    subprocess.run(link, cwd=tmp_path, check=True)
    samples = {name: _samples(site.graph)[-1] for name, site in sites.items()}
    given = b""
    for name, site in sites.items():
        buffers = _buffers(site, samples[name])
        sizes = [b.nbytes for b in buffers] + [0] * (8 - len(buffers))
        given += np.array(sizes, np.uint32).tobytes() + b"".join(b.tobytes() for b in buffers)
    command = ["qemu-aarch64-static", "-cpu", EMULATED[target], str(tmp_path / "program")]
    made = subprocess.run(command, input=given, capture_output=True, check=True).stdout
    at = 0
    for name, site in sites.items():
        y = np.frombuffer(made, site.dtype(site.node.outputs[0]), site.node.y.elements, at)
        at += y.nbytes
        want = run(site.graph, [samples[name]])[0]
        np.testing.assert_array_equal(_result(site, y), want, err_msg=name)


INSTRUCTIONS = {
    "x86_64-avx512-vnni": ("vpdpbusd", "vpmuldq", "vpackuswb"),
    "x86_64-avx-vnni": ("vpdpbusd", "vpmuldq", "vpackuswb"),
    "x86_64-avx2": ("vpmaddwd", "vpmuldq"),
    "aarch64-dotprod": ("sdot", "zip1"),
    "aarch64": ("smull", "smlal", "sadalp"),
}


@pytest.mark.parametrize("target", INSTRUCTIONS)
def test_the_instructions_that_a_target_is_for_are_used(target: str) -> None:
    isa = load_target(target).tvm
    assert isa is not None
    names = ("wide_blocks", "depthwise_period")
    sites = [_offset_site(GRAPHS[n], isa) for n in names]
    functions = {f"f{i}": _built(site) for i, site in enumerate(sites)}
    assert compile_object(functions, isa)[:4] == b"\x7fELF"
    named = {n: f.with_attr("global_symbol", n) for n, f in functions.items()}
    built = tvm.compile(tvm.IRModule(named), target=llvm_target(isa))
    text = built.mod.inspect_source("s")
    assert not [i for i in INSTRUCTIONS[target] if i not in text]
    assert "vpmaddubsw" not in text


def test_sums_that_may_leave_int32_have_no_rule() -> None:
    w = np.full((4, 200_000), 127, np.int8)
    bias, shift = np.zeros(4, np.int32), np.full(4, -20, np.int32)
    constants = [w, bias, np.full(4, 2**30, np.int32), shift]
    graph = one_node("dense", (1, 200_000), constants, DenseAttrs(), "")
    assert rule_for(graph.nodes[0], graph) is None


def test_tiles_fit_the_registers_and_the_row() -> None:
    for registers in (14, 30):
        for columns in range(1, 40):
            for blocks in range(1, 12):
                for pixels, wide in ranked_tiles(columns, blocks, registers):
                    assert pixels <= columns
                    assert wide <= blocks
                    assert pixels * wide + wide + 1 <= registers


@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_interleaving_moves_every_channel_once(lanes: int) -> None:
    order = interleaved_order(lanes)
    assert order.shape == (4, lanes)
    assert sorted(order.ravel()) == list(range(4 * lanes))
